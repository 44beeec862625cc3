// NCCL between processes of one machine, over TCP: what is asked for is done before the call returns, or before the end of
// its group. Only what this project calls; the protocol is for tests.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS, SYSTEM = 2, ARGUMENT = 4, USAGE = 5, REMOTE = 6, MOST_RANKS = 64, MOST_MOVES = 4096 };

typedef struct { char internal[128]; } Id; // "host:port"
typedef struct { int rank, size, error, sockets[MOST_RANKS]; } Comm;
// A send or a receive to come; `done` bytes of it are.
typedef struct { Comm *comm; int peer, receives; char *at; size_t bytes, done; } Move;

static char last_error[256];
static int listening = -1, depth, moves_len;
static Move moves[MOST_MOVES];

static int fail(int code, const char *what) {
    snprintf(last_error, sizeof last_error, "%s", what);
    return code;
}

const char *ncclGetErrorString(int code) {
    return code == SUCCESS ? "no error" : code == SYSTEM ? "unhandled system error" : code == ARGUMENT ? "invalid argument"
         : code == USAGE ? "invalid usage" : code == REMOTE ? "remote process exited or there was a network error" : "error";
}
const char *ncclGetLastError(Comm *comm) { return last_error; }

static int listen_at(const char *host, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, MOST_RANKS)) { close(fd); return -1; }
    return fd;
}

static int port_of(int fd) {
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    getsockname(fd, (void *)&at, &len);
    return ntohs(at.sin_port);
}

static int connect_to(const char *host, int port) {
    for (int tries = 0; tries < 600; tries++) { // a minute
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
        struct hostent *found = gethostbyname(host);
        if (!found) return -1;
        memcpy(&at.sin_addr, found->h_addr_list[0], sizeof at.sin_addr);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!connect(fd, (void *)&at, sizeof at)) return fd;
        close(fd);
        nanosleep(&(struct timespec){0, 100000000}, 0);
    }
    return -1;
}

// All `bytes` to or from a socket that waits; whether it worked.
static int whole(int fd, int receives, void *at, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t now = receives ? recv(fd, (char *)at + done, bytes - done, 0)
                               : send(fd, (char *)at + done, bytes - done, MSG_NOSIGNAL);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) return 0;
        done += now;
    }
    return 1;
}

int ncclGetUniqueId(Id *id) {
    memset(id, 0, sizeof *id);
    const char *named = getenv("NCCL_COMM_ID");
    if (named) {
        if (!strrchr(named, ':')) return fail(ARGUMENT, "Invalid NCCL_COMM_ID");
        snprintf(id->internal, sizeof id->internal, "%s", named);
        return SUCCESS;
    }
    listening = listen_at("127.0.0.1", 0);
    if (listening < 0) return fail(SYSTEM, "no port");
    snprintf(id->internal, sizeof id->internal, "127.0.0.1:%d", port_of(listening));
    return SUCCESS;
}

// Rank 0 hears the ports of all others and tells them; each then connects to those before it.
int ncclCommInitRank(Comm **made, int size, Id id, int rank) {
    Comm *comm = calloc(1, sizeof *comm);
    int ports[MOST_RANKS] = {0}, own = listen_at("127.0.0.1", 0);
    char *colon = strrchr(id.internal, ':');
    if (size > MOST_RANKS || !colon) return fail(ARGUMENT, "ranks or id");
    *colon = 0;
    int port = atoi(colon + 1);
    comm->rank = rank;
    comm->size = size;
    if (rank == 0) {
        if (listening < 0) listening = listen_at("0.0.0.0", port);
        if (listening < 0) return fail(SYSTEM, "the port of NCCL_COMM_ID is taken");
        for (int i = 1; i < size; i++) {
            int said[2], fd = accept(listening, 0, 0);
            if (fd < 0 || !whole(fd, 1, said, sizeof said)) return fail(SYSTEM, "a rank did not come");
            comm->sockets[said[0]] = fd;
            ports[said[0]] = said[1];
        }
        for (int i = 1; i < size; i++) if (!whole(comm->sockets[i], 0, ports, sizeof ports)) return fail(REMOTE, "a rank left");
        close(listening);
    } else {
        int said[2] = {rank, port_of(own)};
        comm->sockets[0] = connect_to(id.internal, port);
        if (comm->sockets[0] < 0 || !whole(comm->sockets[0], 0, said, sizeof said) ||
            !whole(comm->sockets[0], 1, ports, sizeof ports)) return fail(SYSTEM, "rank 0 is not there");
        for (int i = 1; i < rank; i++) {
            comm->sockets[i] = connect_to("127.0.0.1", ports[i]);
            if (comm->sockets[i] < 0 || !whole(comm->sockets[i], 0, &rank, sizeof rank)) return fail(SYSTEM, "a rank is not there");
        }
        for (int i = rank + 1; i < size; i++) {
            int who, fd = accept(own, 0, 0);
            if (fd < 0 || !whole(fd, 1, &who, sizeof who)) return fail(SYSTEM, "a rank did not come");
            comm->sockets[who] = fd;
        }
    }
    close(own);
    for (int i = 0; i < size; i++) {
        if (i == rank) continue;
        int yes = 1;
        setsockopt(comm->sockets[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        fcntl(comm->sockets[i], F_SETFL, O_NONBLOCK);
    }
    *made = comm;
    return SUCCESS;
}

// Goes on with a move as far as it goes now; whether its peer is still there.
static int go_on(Move *m) {
    while (m->done < m->bytes) {
        ssize_t now = m->receives ? recv(m->comm->sockets[m->peer], m->at + m->done, m->bytes - m->done, 0)
                                  : send(m->comm->sockets[m->peer], m->at + m->done, m->bytes - m->done, MSG_NOSIGNAL);
        if (now < 0 && errno == EINTR) continue;
        if (now < 0 && errno == EAGAIN) return 1;
        if (now <= 0) return 0;
        m->done += now;
    }
    return 1;
}

// All moves, those with one peer and direction in their order.
static int run(void) {
    for (;;) {
        struct pollfd wanted[MOST_RANKS] = {0};
        int open = 0;
        for (int i = 0; i < MOST_RANKS; i++) wanted[i].fd = -1;
        char busy[2][MOST_RANKS] = {0};
        for (int i = 0; i < moves_len; i++) {
            Move *m = &moves[i];
            if (m->done == m->bytes || busy[m->receives][m->peer]) continue;
            if (!go_on(m)) { m->comm->error = REMOTE; moves_len = 0; return fail(REMOTE, "a connection was closed by its peer"); }
            if (m->done == m->bytes) continue;
            busy[m->receives][m->peer] = open = 1;
            wanted[m->peer].fd = m->comm->sockets[m->peer];
            wanted[m->peer].events |= m->receives ? POLLIN : POLLOUT;
        }
        if (!open) break;
        poll(wanted, MOST_RANKS, 100);
    }
    moves_len = 0;
    return SUCCESS;
}

static const int WIDTHS[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};

static int move(Comm *comm, int peer, int receives, const void *at, size_t count, int type) {
    if (comm->error) return fail(comm->error, "the communicator has failed before");
    if (peer == comm->rank || moves_len == MOST_MOVES) return fail(ARGUMENT, "peer");
    moves[moves_len++] = (Move){comm, peer, receives, (char *)at, count * WIDTHS[type], 0};
    return depth ? SUCCESS : run();
}
int ncclSend(const void *at, size_t count, int type, int peer, Comm *comm, void *stream) { return move(comm, peer, 0, at, count, type); }
int ncclRecv(void *at, size_t count, int type, int peer, Comm *comm, void *stream) { return move(comm, peer, 1, at, count, type); }
int ncclGroupStart(void) { depth++; return SUCCESS; }
int ncclGroupEnd(void) { return --depth ? SUCCESS : run(); }
int ncclAllGather(const void *from, char *to, size_t count, int type, Comm *comm, void *stream) {
    size_t bytes = count * WIDTHS[type];
    int code = SUCCESS;
    ncclGroupStart();
    memmove(to + comm->rank * bytes, from, bytes);
    for (int i = 0; i < comm->size; i++) {
        if (i == comm->rank) continue;
        code |= move(comm, i, 0, from, count, type) | move(comm, i, 1, to + i * bytes, count, type);
    }
    int end = ncclGroupEnd();
    return code ? code : end;
}
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, Comm *comm, void *stream) {
    int code = SUCCESS;
    ncclGroupStart();
    if (comm->rank != root) code = move(comm, root, 1, to, count, type);
    else for (int i = 0; i < comm->size; i++) if (i != root) code |= move(comm, i, 0, from, count, type);
    int end = ncclGroupEnd();
    return code ? code : end;
}
int ncclCommGetAsyncError(Comm *comm, int *error) { *error = comm->error; return SUCCESS; }
