// SPDX-License-Identifier: Apache-2.0
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUN_TIMEOUT_MS = 60000, KILL_GRACE_MS = 5000, TERM_GRACE_MS = 2000 };

char output[OUTPUT_MAX_BYTES + 1];
int signals = -1;
pid_t shell_pid;
int run_status;
bool is_stopping, is_shell_gone;
static pid_t run_pid;

/** The only waitpid(-1): orphans, the `run` child and the shell are told apart here and nowhere else. */
static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == shell_pid) is_stopping = is_shell_gone = true;
    if (pid != run_pid) continue;
    run_pid = 0;
    run_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
}

/** Signals other than a child's end all ask for the same: stop. */
void take_signals(void) {
  struct signalfd_siginfo info;
  while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) reap();
    else is_stopping = true;
  }
}

/** Signals come through a descriptor, so that one poll() waits for everything and nothing is interrupted. */
void catch_signals(void) {
  static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGUSR2};
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(&set, numbers[i]);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/** Fork a child that is free of the agent's blocked and ignored signals, which exec would keep. */
static pid_t fork_clean(void) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  return 0;
}

/** Its own process group lets the timeout kill what the program started as well. */
static _Noreturn void run_in_child(char **argv, int stdout_fd) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  setpgid(0, 0);
  dup2(null, STDIN_FILENO);
  dup2(stdout_fd, STDOUT_FILENO);
  dup2(stdout_fd, STDERR_FILENO);
  execvp(argv[0], argv);
  dprintf(STDOUT_FILENO, "%s: %s\n", argv[0], strerror(errno));
  _exit(127);
}

/** Take what the pipe holds, a bounded number of times: an endless writer must not outlast the timeout. */
static bool drain_pipe(int fd, size_t *used) {
  char chunk[16384];
  for (int turn = 0; turn < 64; turn++) {
    ssize_t count = read(fd, chunk, sizeof chunk);
    if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
    size_t room = OUTPUT_MAX_BYTES - *used;
    size_t kept = (size_t)count < room ? (size_t)count : room;
    memcpy(output + *used, chunk, kept);
    *used += kept;
  }
  return true;
}

/** Wait for the `run` child's end, not for the pipe's: a daemon it started may hold the pipe for ever. */
static void wait_for_run(pid_t pid, int fd, size_t *used) {
  long deadline = uptime_ms() + RUN_TIMEOUT_MS;
  for (bool is_open = true, is_killed = false; run_pid != 0;) {
    long left = deadline - uptime_ms();
    if (left <= 0 && is_killed) break;
    if (left <= 0 || (is_stopping && !is_killed)) {
      kill(-pid, SIGKILL);
      is_killed = true;
      deadline = uptime_ms() + (left = KILL_GRACE_MS);
    }
    struct pollfd set[] = {{signals, POLLIN, 0}, {is_open ? fd : -1, POLLIN, 0}};
    if (poll(set, 2, (int)left) < 0) continue;
    if (set[0].revents) take_signals();
    if (set[1].revents) is_open = drain_pipe(fd, used);
  }
  drain_pipe(fd, used);
}

/** Run argv with its output going to `output`; false with errno when there is no process to be had. */
bool run_program(char **argv, size_t *used) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  // Only our end: a program may not expect EAGAIN on its standard output.
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  pid_t pid = fork_clean();
  if (pid == 0) run_in_child(argv, ends[1]);
  int reason = errno;
  close(ends[1]);
  if (pid > 0) {
    setpgid(pid, pid);
    run_pid = pid;
    run_status = 128 + SIGKILL;
    wait_for_run(pid, ends[0], used);
    run_pid = 0;
  }
  close(ends[0]);
  errno = reason;
  return pid > 0;
}

/** A shell for people who debug a guest; without a controlling terminal it would have no Ctrl-C. */
void start_shell(void) {
  shell_pid = fork_clean();
  if (shell_pid != 0) return;
  setsid();
  // Under systemd the agent's own input is /dev/null.
  int console = open("/dev/console", O_RDWR);
  for (int fd = STDIN_FILENO; console >= 0 && fd <= STDERR_FILENO; fd++) dup2(console, fd);
  ioctl(STDIN_FILENO, TIOCSCTTY, 1);
  set_environment();
  execl("/bin/bash", "bash", "-i", (char *)NULL);
  execl("/bin/sh", "sh", "-i", (char *)NULL);
  dprintf(STDOUT_FILENO, "osbuilder-agent: /bin/sh: %s\n", strerror(errno));
  _exit(127);
}

#define MODULES_DIR "/etc/modules-load.d"

/** Most modules that the files of a guest name; what is beyond is not loaded. */
enum { MODULES_MAX = 256 };

/** Names of modules in a file of modules-load.d(5), added to `argv`; they stay in `text`. */
static size_t add_module_names(char *text, char **argv, size_t count) {
  char *next_line = NULL;
  for (char *line = strtok_r(text, "\n", &next_line); line; line = strtok_r(NULL, "\n", &next_line)) {
    char *next = NULL, *name = strtok_r(line, " \t", &next);
    if (name && *name != '#' && *name != ';' && count < MODULES_MAX) argv[count++] = name;
  }
  return count;
}

/** Where PID 1 is systemd it reads these files; here nobody else does, and no udev loads what a device needs. */
void load_modules(void) {
  static char *argv[MODULES_MAX + 1] = {"modprobe", "-a", "-b", "-q", "--"};
  const size_t options = 5;
  size_t count = options, used = 0;
  DIR *files = opendir(MODULES_DIR);
  for (struct dirent *entry; files && (entry = readdir(files));) {
    char path[512];
    size_t length = strlen(entry->d_name);
    if (length < 5 || strcmp(entry->d_name + length - 5, ".conf") != 0) continue;
    snprintf(path, sizeof path, MODULES_DIR "/%s", entry->d_name);
    ssize_t size = read_file(path, output + used, OUTPUT_MAX_BYTES - used);
    if (size < 0) continue;
    output[used + (size_t)size] = '\0';
    count = add_module_names(output + used, argv, count);
    used += (size_t)size + 1;
    if (used >= OUTPUT_MAX_BYTES) break;
  }
  if (files) closedir(files);
  if (count == options) return;
  int status = 0;
  pid_t pid = fork_clean();
  if (pid == 0) {
    execvp(argv[0], argv);
    _exit(127);
  }
  if (pid > 0) waitpid(pid, &status, 0);
  if (pid < 0 || status != 0)
    dprintf(STDOUT_FILENO, "osbuilder-agent: modprobe: not every module of " MODULES_DIR " is loaded\n");
}

/** Wait until no child is left: as PID 1 that means no process is left. */
static void wait_for_children(long timeout_ms) {
  long deadline = uptime_ms() + timeout_ms;
  for (pid_t pid = 0; pid >= 0 && uptime_ms() < deadline;)
    if ((pid = waitpid(-1, NULL, WNOHANG)) == 0) sleep_ms(5);
}

/** Stop everything, politely first, so that nothing is being written when the power goes. */
_Noreturn void power_off(void) {
  kill(-1, SIGTERM);
  wait_for_children(TERM_GRACE_MS);
  kill(-1, SIGKILL);
  wait_for_children(500);
  sync();
  mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
