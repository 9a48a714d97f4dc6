// SPDX-License-Identifier: Apache-2.0
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_NAME "org.osbuilder.agent"
#define PORTS_DIR "/sys/class/virtio-ports"
/** Source: linux/vm_sockets.h, which musl-gcc cannot see (no kernel headers on its path). */
#define VSOCK_CID_ANY 0xffffffffu
#define VSOCK_CID_HOST 2u
#define VSOCK_PORT 1024u

enum {
  HEADER_MAX_BYTES = 64,
  REQUEST_MAX_BYTES = 64 * 1024,
  BUFFER_BYTES = HEADER_MAX_BYTES + REQUEST_MAX_BYTES,
  ARGUMENTS_MAX = 1024,
  SEND_TIMEOUT_MS = 5000,
  HANGUP_POLL_MS = 20,
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

static char port_buffer[BUFFER_BYTES], client_buffer[BUFFER_BYTES];
static struct channel port = {.fd = -1, .is_port = true, .buffer = port_buffer};
static struct channel client = {.fd = -1, .buffer = client_buffer};
static int listener = -1;
static long search_ms;
bool is_poweroff_requested;

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
void wait_for_work(void) {
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
