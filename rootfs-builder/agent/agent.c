// SPDX-License-Identifier: Apache-2.0
#include "agent.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

/** systemd's SIGRTMIN+4, counted from glibc's SIGRTMIN (34); musl's is 35. Source: systemd(1) */
enum { SYSTEMD_POWEROFF_SIGNAL = 38 };

long ready_ms;

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

/** Be the whole user space of the guest. */
static _Noreturn void init(void) {
  char hostname[65];
  mount_rows(sizeof mounts / sizeof *mounts);
  reboot(RB_DISABLE_CAD);
  if (read_line("/etc/hostname", hostname, sizeof hostname) && sethostname(hostname, strlen(hostname)) != 0)
    dprintf(STDOUT_FILENO, "osbuilder-agent: hostname %s: %s\n", hostname, strerror(errno));
  set_environment();
  load_modules();
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
