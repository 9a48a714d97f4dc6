// SPDX-License-Identifier: Apache-2.0
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const struct mount_row mounts[ALL_MOUNTS] = {
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
long uptime_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/** Sleep; usleep(3) may not take a second or more. */
void sleep_ms(long ms) {
  struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&pause, NULL);
}

/** Read up to `size` bytes to the file's end, as /proc files tell no size. Returns -1 with errno. */
ssize_t read_file(const char *path, char *data, size_t size) {
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
bool read_line(const char *path, char *line, size_t size) {
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
void mount_rows(int count) {
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

/** Many programs expect 127.0.0.1 to answer, and nothing else in the guest brings it up. */
void bring_up_loopback(void) {
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
bool has_kernel_word(const char *wanted) {
  char line[4096], *next = NULL;
  if (!read_line("/proc/cmdline", line, sizeof line)) return false;
  for (char *word = strtok_r(line, " ", &next); word; word = strtok_r(NULL, " ", &next))
    if (strcmp(word, wanted) == 0) return true;
  return false;
}

/** systemd starts the agent with little, and the kernel starts PID 1 with less. */
void set_environment(void) {
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  setenv("TERM", "linux", 1);
}
