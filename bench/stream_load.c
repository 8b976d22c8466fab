/* Opens many streams and counts what comes, at next to no cost.
 *
 *   stream_load PORT PATH CONNECTIONS
 *
 * Prints "open N" when the head of each answer has come. Then, for each line "K" on its input, waits for K marks (~)
 * on every connection and prints "marks TOTAL SECONDS": from the first byte of them to the last. The end of the input
 * ends it. An answer that is no 200, or a connection that ends, is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 16, AT_ONCE = 256, EVENTS = 512, STALL_MS = 60000 };

static char piece[PIECE];
static char *in_head;
static long heads, marks;
static double first_at, last_at;
static int poller;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void receive(int fd) {
    for (;;) {
        ssize_t size = recv(fd, piece, PIECE, MSG_DONTWAIT);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (size <= 0) fail("a stream ended");
        if (in_head[fd]) {
            if (size < 12 || memcmp(piece, "HTTP/1.1 200", 12) != 0) {
                fwrite(piece, 1, size, stderr);
                fail("not 200");
            }
            in_head[fd] = 0;
            heads++;
        }
        long found = 0;
        for (ssize_t at = 0; at < size; at++) found += piece[at] == '~';
        if (found) {
            last_at = now();
            if (!marks) first_at = last_at;
            marks += found;
        }
        if (size < PIECE) return;
    }
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, STALL_MS);
    if (ready == 0) {
        errno = ETIMEDOUT;
        fail("nothing comes");
    }
    for (int n = 0; n < ready; n++) receive(events[n].data.fd);
}

int main(int count, char **given) {
    if (count != 4) return 2;
    int port = atoi(given[1]);
    long connections = atol(given[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    in_head = calloc(connections + 64, 1);
    poller = epoll_create1(0);
    char request[1024];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", given[2], port);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (long n = 0; n < connections; n++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || fd >= connections + 64) fail("socket");
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
        in_head[fd] = 1;
        if (send(fd, request, length, MSG_NOSIGNAL) != length) fail("send");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        while (n + 1 - heads > AT_ONCE) serve();
    }
    while (heads < connections) serve();
    printf("open %ld\n", heads);
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        long wanted = atol(line) * connections;
        while (marks < wanted) serve();
        printf("marks %ld %.6f\n", marks, last_at - first_at);
        fflush(stdout);
        marks = 0;
    }
    return 0;
}
