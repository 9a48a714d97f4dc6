// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "0.1.0"
#endif
#define NAME_AND_VERSION "osbuilder-agent " AGENT_VERSION

#define PORT_NAME "org.osbuilder.agent"
#define PORTS_DIR "/sys/class/virtio-ports"
#define BOOT_DIR "/.osbuilder-boot"
#define PLAN_FILE BOOT_DIR "/plan"
#define ROOT_DIR BOOT_DIR "/root"
/** Source: linux/vm_sockets.h, which musl-gcc cannot see (no kernel headers on its path). */
#define VSOCK_CID_ANY 0xffffffffu
#define VSOCK_CID_HOST 2u
#define VSOCK_PORT 1024u

enum {
  HEADER_MAX_BYTES = 64,
  REQUEST_MAX_BYTES = 64 * 1024,
  BUFFER_BYTES = HEADER_MAX_BYTES + REQUEST_MAX_BYTES,
  OUTPUT_MAX_BYTES = 1024 * 1024,
  ARGUMENTS_MAX = 1024,
  /** systemd's SIGRTMIN+4, counted from glibc's SIGRTMIN (34); musl's is 35. Source: systemd(1) */
  SYSTEMD_POWEROFF_SIGNAL = 38,
  RUN_TIMEOUT_MS = 60000,
  KILL_GRACE_MS = 5000,
  SEND_TIMEOUT_MS = 5000,
  TERM_GRACE_MS = 2000,
  HANGUP_POLL_MS = 20,
  ROOT_TIMEOUT_MS = 30000,
};

/** One byte stream to the host and the part of a request that has arrived on it. */
struct channel {
  int fd;
  bool is_port;
  bool is_hung_up;
  size_t used;
  char *buffer;
};

/** struct sockaddr_vm. Source: linux/vm_sockets.h */
struct vsock_address {
  sa_family_t family;
  unsigned short reserved;
  unsigned port;
  unsigned cid;
  unsigned char zero[4];
};

/** One file system that every guest needs; the source is named like the type. */
struct mount_row {
  const char *type, *target;
  unsigned long flags;
  const char *data;
};

static char port_buffer[BUFFER_BYTES], client_buffer[BUFFER_BYTES];
static struct channel port = {.fd = -1, .is_port = true, .buffer = port_buffer};
static struct channel client = {.fd = -1, .buffer = client_buffer};
static char output[OUTPUT_MAX_BYTES + 1];
static int listener = -1, signals = -1;
static pid_t run_pid, shell_pid;
static int run_status;
static bool is_stopping, is_shell_gone, is_poweroff_requested;
static long ready_ms, search_ms;

/** The first BOOT_MOUNTS rows are all that stage mode needs. */
enum { BOOT_MOUNTS = 3 };
static const struct mount_row mounts[] = {
  {"devtmpfs", "/dev", MS_NOSUID, "mode=0755"},
  {"proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL},
  {"sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL},
  {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666"},
  {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
  {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
  {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
  {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL},
};

/** Milliseconds since the guest started, so that a host can compare its boots. */
static long uptime_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/** Sleep; usleep(3) may not take a second or more. */
static void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&pause, NULL);
}

/** Read up to `size` bytes to the file's end, as /proc files tell no size. Returns -1 with errno. */
static ssize_t read_file(const char *path, char *data, size_t size) {
  // Non-blocking, so that a fifo or a terminal cannot hold the agent for ever.
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t used = 0;
  ssize_t count = 0;
  while (used < size && ((count = read(fd, data + used, size - used)) > 0 || (count < 0 && errno == EINTR)))
    used += count > 0 ? (size_t)count : 0;
  int reason = errno;
  close(fd);
  errno = reason;
  return count < 0 ? -1 : (ssize_t)used;
}

/** Read the first line of a small file as a string; false when there is none. */
static bool read_line(const char *path, char *line, size_t size) {
  ssize_t length = read_file(path, line, size - 1);
  line[length < 0 ? 0 : length] = '\0';
  line[strcspn(line, "\n")] = '\0';
  return line[0] != '\0';
}

/** A second proc or tmpfs on the same directory is no EBUSY since Linux 5.8: look before mounting. */
static bool is_mount_point(const char *path) {
  char parent_path[64];
  struct stat self, parent;
  snprintf(parent_path, sizeof parent_path, "%s/..", path);
  return stat(path, &self) == 0 && stat(parent_path, &parent) == 0 && self.st_dev != parent.st_dev;
}

/** An initramfs without /dev/console starts PID 1 with no descriptors at all; 0, 1 and 2 must be taken. */
static void open_console(void) {
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  if (fd < 0) return;
  for (int target = 0; target <= 2; target++) dup2(fd, target);
  if (fd > 2) close(fd);
}

/** Mount the first `count` rows. A failure is only told: what is missing is best seen in a running guest. */
static void mount_rows(int count) {
  char failures[1024] = "";
  for (const struct mount_row *row = mounts; row < mounts + count; row++) {
    mkdir(row->target, 0755);
    if (is_mount_point(row->target)) continue;
    if (mount(row->type, row->target, row->type, row->flags, row->data) == 0 || errno == EBUSY) continue;
    size_t used = strlen(failures);
    snprintf(failures + used, sizeof failures - used, "osbuilder-agent: mount %s: %s\n", row->target,
             strerror(errno));
  }
  // Told last, for there may be no console before /dev is mounted.
  open_console();
  dprintf(STDOUT_FILENO, "%s", failures);
}

/** End the VM rather than panic or hang: the host is waiting for QEMU to end. */
__attribute__((format(printf, 1, 2))) static _Noreturn void stage_fatal(const char *format, ...) {
  va_list values;
  va_start(values, format);
  dprintf(STDOUT_FILENO, "stage: ");
  vdprintf(STDOUT_FILENO, format, values);
  dprintf(STDOUT_FILENO, "\n");
  va_end(values);
  sync();
  sleep_ms(1000);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

/** A missing module is not fatal: the kernel may have it built in, and what needs it will say so. */
static void stage_module(const char *path, const char *params) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if ((fd < 0 || syscall(SYS_finit_module, fd, params, 0) != 0) && errno != EEXIST)
    // The kernel's ENOENT means that a module this one needs is not loaded; the file is there.
    dprintf(STDOUT_FILENO, "stage: module %s: %s\n", path,
            fd >= 0 && errno == ENOENT ? "unknown symbol, its depends= come first" : strerror(errno));
  if (fd >= 0) close(fd);
}

/** Devices appear when their driver has probed them, which goes on after finit_module returns. */
static void stage_wait(const char *device) {
  long start = uptime_ms(), waited = 0;
  while (access(device, F_OK) != 0 && waited < ROOT_TIMEOUT_MS) {
    sleep_ms(waited < 1000 ? 5 : 50);
    waited = uptime_ms() - start;
  }
  if (waited < ROOT_TIMEOUT_MS) return;
  dprintf(STDOUT_FILENO, "stage: block devices:");
  DIR *blocks = opendir("/sys/class/block");
  for (struct dirent *entry; blocks && (entry = readdir(blocks));)
    if (entry->d_name[0] != '.') dprintf(STDOUT_FILENO, " %s", entry->d_name);
  dprintf(STDOUT_FILENO, "\n");
  stage_fatal("root %s: did not appear in %d s", device, ROOT_TIMEOUT_MS / 1000);
}

/** A file that cannot be removed costs some memory, not the boot. */
static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where) {
  (void)info, (void)kind, (void)where;
  remove(path);
  return 0;
}

/** The initramfs lives in memory: what is not removed stays occupied as long as the guest runs. */
static void remove_boot_dir(void) {
  if (chdir("/") != 0) return;
  nftw(BOOT_DIR, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/** Hand /dev, /proc and /sys over to the root; where it has no place for one, that one goes away. */
static void stage_move_mounts(void) {
  for (int row = 0; row < BOOT_MOUNTS; row++) {
    char target[64];
    snprintf(target, sizeof target, ROOT_DIR "%s", mounts[row].target);
    if (mount(mounts[row].target, target, NULL, MS_MOVE, NULL) != 0) umount2(mounts[row].target, MNT_DETACH);
  }
}

/** Split OPTIONS in place: the two words that are flags, and the file system's own. */
static unsigned long mount_flags(char *options, char *data, size_t size) {
  unsigned long flags = 0;
  char *next = NULL;
  data[0] = '\0';
  for (char *word = strtok_r(options, ",", &next); word; word = strtok_r(NULL, ",", &next)) {
    size_t used = strlen(data);
    if (strcmp(word, "ro") == 0) flags |= MS_RDONLY;
    else if (strcmp(word, "rw") == 0) flags &= ~(unsigned long)MS_RDONLY;
    else if (strcmp(word, "-") != 0) snprintf(data + used, size - used, "%s%s", used ? "," : "", word);
  }
  return flags;
}

/** Leave the initramfs for the root file system; pivot_root(2) cannot do it from the first file system. */
static _Noreturn void stage_root(const char *device, const char *type, char *options) {
  char data[1024];
  unsigned long flags = mount_flags(options, data, sizeof data);
  // A virtiofs or 9p tag is no path: there is nothing to wait for.
  if (device[0] == '/') stage_wait(device);
  mkdir(ROOT_DIR, 0755);
  if (mount(device, ROOT_DIR, type, flags, data) != 0)
    stage_fatal("mount %s (%s): %s", device, type, strerror(errno));
  stage_move_mounts();
  remove_boot_dir();
  bool is_moved = chdir(ROOT_DIR) == 0 && mount(".", "/", NULL, MS_MOVE, NULL) == 0;
  if (!is_moved || chroot(".") != 0 || chdir("/") != 0) stage_fatal("switch root: %s", strerror(errno));
  execl("/sbin/init", "/sbin/init", (char *)NULL);
  stage_fatal("exec /sbin/init: %s", strerror(errno));
}

/** The next init is written to start from scratch, so it gets what the kernel would have given it. */
static _Noreturn void stage_exec(const char *path) {
  remove_boot_dir();
  for (int row = BOOT_MOUNTS - 1; row >= 0; row--) umount2(mounts[row].target, MNT_DETACH);
  execl(path, path, (char *)NULL);
  stage_fatal("exec %s: %s", path, strerror(errno));
}

/** Unlike a module, an instruction that is not understood is fatal: the plan is newer than the agent. */
static void stage_line(char *line) {
  char *rest = NULL, *word = strtok_r(line, " ", &rest);
  if (!word || word[0] == '#') return;
  char *first = strtok_r(NULL, " ", &rest);
  if (first && strcmp(word, "module") == 0) return stage_module(first, rest ? rest : "");
  if (first && strcmp(word, "exec") == 0) stage_exec(first);
  char *type = strtok_r(NULL, " ", &rest), *options = strtok_r(NULL, " ", &rest);
  if (options && strcmp(word, "root") == 0) stage_root(first, type, options);
  stage_fatal("plan: cannot follow the line that starts with %s", word);
}

/** Follow the plan of the boot-time initramfs; only its root or exec line leads out. */
static _Noreturn void stage(void) {
  mount_rows(BOOT_MOUNTS);
  ssize_t length = read_file(PLAN_FILE, output, OUTPUT_MAX_BYTES);
  if (length < 0 || chdir(BOOT_DIR) != 0) stage_fatal("%s: %s", PLAN_FILE, strerror(errno));
  output[length] = '\0';
  char *next = NULL;
  for (char *line = strtok_r(output, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) stage_line(line);
  stage_fatal("plan: neither root nor exec in it");
}

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
static void take_signals(void) {
  struct signalfd_siginfo info;
  while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGCHLD) reap();
    else is_stopping = true;
  }
}

/** Signals come through a descriptor, so that one poll() waits for everything and nothing is interrupted. */
static void catch_signals(void) {
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
static bool run_program(char **argv, size_t *used) {
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

/** A closed port is looked for again, but not at once: a broken one must not make the loop spin. */
static void close_channel(struct channel *channel) {
  if (channel->fd >= 0) close(channel->fd);
  channel->fd = -1;
  channel->used = 0;
  channel->is_hung_up = false;
  if (channel->is_port) search_ms = uptime_ms() + 50;
}

/** A host that went away or stopped reading costs its answer, never the agent. */
static bool send_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t count = write(fd, data, length);
    if (count >= 0) {
      data += count;
      length -= (size_t)count;
      continue;
    }
    struct pollfd set = {fd, POLLOUT, 0};
    if (errno == EINTR) continue;
    if (errno != EAGAIN || poll(&set, 1, SEND_TIMEOUT_MS) == 0) return false;
    if (set.revents & (POLLHUP | POLLERR)) return false;
  }
  return true;
}

/** Send one response; a channel that does not take it is of no more use. */
static void respond(struct channel *channel, const char *word, int status, const char *data, size_t length) {
  char header[HEADER_MAX_BYTES];
  int size = snprintf(header, sizeof header, "%s %d %zu\n", word, status, length);
  if (!send_all(channel->fd, header, (size_t)size) || !send_all(channel->fd, data, length))
    close_channel(channel);
}

/** The response of verbs that have no status of their own. */
static void respond_ok(struct channel *channel, const char *text) {
  respond(channel, "ok", 0, text, strlen(text));
}

/** An error says that the agent could not do it; a program that failed is `ok` with its status. */
static void respond_error(struct channel *channel, const char *subject, const char *reason) {
  char text[512];
  snprintf(text, sizeof text, "%.200s: %s", subject, reason);
  respond(channel, "error", 0, text, strlen(text));
}

/** The facts a boot test wants to compare, one `name=value` per line. */
static void answer_ready(struct channel *channel) {
  const char *init = getpid() == 1 ? "agent" : access("/run/systemd/system", F_OK) == 0 ? "systemd" : "other";
  char text[256];
  snprintf(text, sizeof text, "version=" AGENT_VERSION "\ninit=%s\nuptime_ms=%ld\npid=%d\n", init, ready_ms,
           (int)getpid());
  respond_ok(channel, text);
}

/** NULs end the arguments, so that no quoting and no shell is between the caller and the program. */
static void answer_run(struct channel *channel, char *payload, size_t length) {
  static char *argv[ARGUMENTS_MAX + 1];
  if (length == 0 || payload[length - 1] != '\0')
    return respond_error(channel, "run", "expected arguments, each ended by a NUL");
  size_t count = 0;
  for (char *argument = payload; argument < payload + length; argument += strlen(argument) + 1) {
    if (count == ARGUMENTS_MAX) return respond_error(channel, "run", "more than 1024 arguments");
    argv[count++] = argument;
  }
  argv[count] = NULL;
  size_t used = 0;
  if (!run_program(argv, &used)) return respond_error(channel, argv[0], strerror(errno));
  respond(channel, "ok", run_status, output, used);
}

/** Reading needs no program, so it also works in a guest that has none. */
static void answer_read(struct channel *channel, const char *payload, size_t length) {
  char path[4096];
  if (length == 0 || length >= sizeof path || memchr(payload, '\0', length))
    return respond_error(channel, "read", "expected a path");
  memcpy(path, payload, length);
  path[length] = '\0';
  ssize_t size = read_file(path, output, OUTPUT_MAX_BYTES);
  if (size < 0) return respond_error(channel, path, strerror(errno));
  respond(channel, "ok", 0, output, (size_t)size);
}

/** Pick the verb's function; PID 1 switches off only after the answer has been sent. */
static void answer(struct channel *channel, const char *verb, char *payload, size_t length) {
  if (strcmp(verb, "ready") == 0) return answer_ready(channel);
  if (strcmp(verb, "version") == 0) return respond_ok(channel, NAME_AND_VERSION);
  if (strcmp(verb, "run") == 0) return answer_run(channel, payload, length);
  if (strcmp(verb, "read") == 0) return answer_read(channel, payload, length);
  if (strcmp(verb, "poweroff") != 0) return respond_error(channel, verb, "unknown verb");
  respond_ok(channel, "");
  is_poweroff_requested = true;
}

/** Refuse what cannot be framed, after taking all that the host still sends: both sides start anew. */
static void reject(struct channel *channel, const char *reason) {
  struct pollfd set = {channel->fd, POLLIN, 0};
  long deadline = uptime_ms() + 2000;
  while (uptime_ms() < deadline && poll(&set, 1, 100) > 0)
    if (read(channel->fd, channel->buffer, BUFFER_BYTES) <= 0) break;
  channel->used = 0;
  respond_error(channel, "request", reason);
  // The port stays open: closing it would throw away what the host sends once it has read the answer.
  if (!channel->is_port) close_channel(channel);
}

/** Parse `VERB LENGTH` in place; returns why it is no header, or NULL. */
static const char *parse_header(char *header, size_t *length) {
  char *space = strchr(header, ' ');
  if (!space || space == header) return "expected VERB LENGTH";
  *space = '\0';
  size_t digits = strspn(space + 1, "0123456789");
  if (digits == 0 || space[1 + digits] != '\0') return "bad length";
  // Nine digits cannot overflow, and are already too many.
  *length = digits > 9 ? REQUEST_MAX_BYTES + 1 : strtoul(space + 1, NULL, 10);
  return *length > REQUEST_MAX_BYTES ? "longer than 65536 bytes" : NULL;
}

/** Answer every complete request in the buffer and keep the rest for the next read. */
static void consume(struct channel *channel) {
  while (channel->fd >= 0 && channel->used > 0) {
    size_t seen = channel->used < HEADER_MAX_BYTES ? channel->used : HEADER_MAX_BYTES;
    char *end = memchr(channel->buffer, '\n', seen), header[HEADER_MAX_BYTES];
    if (!end && seen == HEADER_MAX_BYTES) return reject(channel, "header longer than 64 bytes");
    if (!end) return;
    size_t start = (size_t)(end - channel->buffer) + 1, length = 0;
    memcpy(header, channel->buffer, start);
    header[start - 1] = '\0';
    const char *reason = parse_header(header, &length);
    if (reason) return reject(channel, reason);
    if (channel->used < start + length) return;
    answer(channel, header, channel->buffer + start, length);
    if (channel->fd < 0) return;
    channel->used -= start + length;
    memmove(channel->buffer, channel->buffer + start + length, channel->used);
  }
}

/** Take what has arrived; the port reads as ended as long as no host is connected to it. */
static void serve_channel(struct channel *channel) {
  ssize_t count = read(channel->fd, channel->buffer + channel->used, BUFFER_BYTES - channel->used);
  channel->is_hung_up = channel->is_port && count == 0;
  if (count > 0) {
    channel->used += (size_t)count;
    consume(channel);
  } else if (channel->is_hung_up) {
    channel->used = 0;
  } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
    close_channel(channel);
  }
}

/** The port is found by name: its number depends on the other devices of the VM. */
static void find_port(void) {
  DIR *ports = opendir(PORTS_DIR);
  for (struct dirent *entry; ports && port.fd < 0 && (entry = readdir(ports));) {
    char path[512], name[64];
    snprintf(path, sizeof path, PORTS_DIR "/%s/name", entry->d_name);
    if (!read_line(path, name, sizeof name) || strcmp(name, PORT_NAME) != 0) continue;
    snprintf(path, sizeof path, "/dev/%s", entry->d_name);
    port.fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  }
  if (ports) closedir(ports);
}

/** Asking for an absent socket family makes the kernel run modprobe each time; /dev/vsock tells for free. */
static void open_listener(void) {
  struct vsock_address address = {.family = AF_VSOCK, .port = VSOCK_PORT, .cid = VSOCK_CID_ANY};
  if (access("/dev/vsock", F_OK) != 0) return;
  listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) return;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 4) == 0) return;
  close(listener);
  listener = -1;
}

/** Only the host may speak: over vsock loopback any process of the guest could otherwise become root. */
static void accept_client(void) {
  struct vsock_address peer = {0};
  socklen_t size = sizeof peer;
  client.fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client.fd >= 0 && peer.cid != VSOCK_CID_HOST) close_channel(&client);
}

/** Look for channels that may appear late. Returns how long poll() may sleep, -1 for any time. */
static int search_channels(void) {
  long now = uptime_ms();
  if ((port.fd < 0 || listener < 0) && now >= search_ms) {
    if (port.fd < 0) find_port();
    if (listener < 0) open_listener();
    search_ms = now + (now - ready_ms < 5000 ? 50 : 1000);
  }
  if (port.fd >= 0 && port.is_hung_up) return HANGUP_POLL_MS;
  return port.fd < 0 || listener < 0 ? (int)(search_ms - now) : -1;
}

/** One turn of the loop: no channel that is idle or absent can hold up another. */
static void wait_for_work(void) {
  int timeout_ms = search_channels();
  // poll() reports a hang-up at once and always, so a port without a host is asked by read() instead.
  struct pollfd set[] = {
    {signals, POLLIN, 0},
    {client.fd < 0 ? listener : -1, POLLIN, 0},
    {client.fd, POLLIN, 0},
    {port.is_hung_up ? -1 : port.fd, POLLIN, 0},
  };
  if (poll(set, 4, timeout_ms) < 0) return;
  if (set[0].revents) take_signals();
  if (set[1].revents) accept_client();
  if (set[2].revents) serve_channel(&client);
  if (port.fd >= 0 && (set[3].revents || port.is_hung_up)) serve_channel(&port);
}

/** Say that requests are answered from now on; a boot test may take this line as its end. */
static void announce(void) {
  ready_ms = uptime_ms();
  dprintf(STDOUT_FILENO, "osbuilder-agent: ready %ld.%02ld\n", ready_ms / 1000, ready_ms % 1000 / 10);
}

/** Serve until a signal, the shell's end or a `poweroff` request says stop. */
static void serve(void) {
  is_poweroff_requested = false;
  while (!is_stopping && !is_poweroff_requested) wait_for_work();
  // The answer to `poweroff` is in the device's queue; let the host take it.
  if (is_poweroff_requested) sleep_ms(100);
}

/** Wait until no child is left: as PID 1 that means no process is left. */
static void wait_for_children(long timeout_ms) {
  long deadline = uptime_ms() + timeout_ms;
  for (pid_t pid = 0; pid >= 0 && uptime_ms() < deadline;)
    if ((pid = waitpid(-1, NULL, WNOHANG)) == 0) sleep_ms(5);
}

/** Stop everything, politely first, so that nothing is being written when the power goes. */
static _Noreturn void power_off(void) {
  kill(-1, SIGTERM);
  wait_for_children(TERM_GRACE_MS);
  kill(-1, SIGKILL);
  wait_for_children(500);
  sync();
  mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

/** Many programs expect 127.0.0.1 to answer, and nothing else in the guest brings it up. */
static void bring_up_loopback(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    ioctl(fd, SIOCSIFFLAGS, &request);
  }
  close(fd);
}

/** Words are compared whole: `osbuilder.shellx` is another word. */
static bool has_kernel_word(const char *wanted) {
  char line[4096], *next = NULL;
  if (!read_line("/proc/cmdline", line, sizeof line)) return false;
  for (char *word = strtok_r(line, " ", &next); word; word = strtok_r(NULL, " ", &next))
    if (strcmp(word, wanted) == 0) return true;
  return false;
}

/** systemd starts the agent with little, and the kernel starts PID 1 with less. */
static void set_environment(void) {
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  setenv("TERM", "linux", 1);
}

/** A shell for people who debug a guest; without a controlling terminal it would have no Ctrl-C. */
static void start_shell(void) {
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

/** Be the whole user space of the guest. */
static _Noreturn void init(void) {
  char hostname[65];
  mount_rows(sizeof mounts / sizeof *mounts);
  reboot(RB_DISABLE_CAD);
  if (read_line("/etc/hostname", hostname, sizeof hostname) && sethostname(hostname, strlen(hostname)) != 0)
    dprintf(STDOUT_FILENO, "osbuilder-agent: hostname %s: %s\n", hostname, strerror(errno));
  set_environment();
  bring_up_loopback();
  catch_signals();
  if (has_kernel_word("osbuilder.shell")) start_shell();
  announce();
  serve();
  power_off();
}

/** Under another init the agent only serves, and leaves switching off to PID 1. */
static int service(void) {
  catch_signals();
  if (has_kernel_word("osbuilder.shell")) start_shell();
  announce();
  while (!is_stopping) {
    serve();
    // The console's shell has ended: its user is done with the guest.
    if (is_stopping && shell_pid > 0 && is_shell_gone) is_poweroff_requested = true;
    // busybox init, and this agent, take SIGUSR2 for the same wish.
    int number = access("/run/systemd/system", F_OK) == 0 ? SYSTEMD_POWEROFF_SIGNAL : SIGUSR2;
    if (is_poweroff_requested) kill(1, number);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--version") == 0) return puts(NAME_AND_VERSION) < 0;
  if (getpid() != 1) return service();
  if (access(PLAN_FILE, F_OK) == 0) stage();
  init();
}
