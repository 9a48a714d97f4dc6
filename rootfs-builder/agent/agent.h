// SPDX-License-Identifier: Apache-2.0
#ifndef AGENT_H
#define AGENT_H

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "0.1.0"
#endif
#define NAME_AND_VERSION "osbuilder-agent " AGENT_VERSION

/** There is a plan in it when the agent is to boot something else. */
#define BOOT_DIR "/.osbuilder-boot"
#define PLAN_FILE BOOT_DIR "/plan"

enum { OUTPUT_MAX_BYTES = 1024 * 1024 };

/** What a program printed, or a file holds: one request is answered at a time, so one buffer will do. */
extern char output[OUTPUT_MAX_BYTES + 1];
/** Descriptor that signals come through. */
extern int signals;
/** The shell on the console, and the exit status of the last program that was run. */
extern pid_t shell_pid;
extern int run_status;
/** Why the loop ends. */
extern bool is_stopping, is_shell_gone, is_poweroff_requested;
/** When serving began. Unit: ms since the guest started. */
extern long ready_ms;

// system.c: files, mounts and names of the guest.
/** One file system that every guest needs; the source is named like the type. */
struct mount_row {
  const char *type, *target;
  unsigned long flags;
  const char *data;
};
/** The first BOOT_MOUNTS rows are all that stage mode needs. */
enum { BOOT_MOUNTS = 3, ALL_MOUNTS = 8 };
extern const struct mount_row mounts[ALL_MOUNTS];
long uptime_ms(void);
void sleep_ms(long ms);
ssize_t read_file(const char *path, char *data, size_t size);
bool read_line(const char *path, char *line, size_t size);
void mount_rows(int count);
void bring_up_loopback(void);
bool has_kernel_word(const char *wanted);
void set_environment(void);

// process.c: programs, signals, and the end.
void take_signals(void);
void catch_signals(void);
bool run_program(char **argv, size_t *used);
void start_shell(void);
void load_modules(void);
_Noreturn void power_off(void);

// stage.c: the archive that boots something else.
_Noreturn void stage(void);

// channel.c: requests of the host.
void wait_for_work(void);

#endif
