// SPDX-License-Identifier: Apache-2.0
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOT_DIR BOOT_DIR "/root"

enum { ROOT_TIMEOUT_MS = 30000 };

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
_Noreturn void stage(void) {
  mount_rows(BOOT_MOUNTS);
  ssize_t length = read_file(PLAN_FILE, output, OUTPUT_MAX_BYTES);
  if (length < 0 || chdir(BOOT_DIR) != 0) stage_fatal("%s: %s", PLAN_FILE, strerror(errno));
  output[length] = '\0';
  char *next = NULL;
  for (char *line = strtok_r(output, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) stage_line(line);
  stage_fatal("plan: neither root nor exec in it");
}
