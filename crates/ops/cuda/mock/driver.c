// A CUDA driver without a device: its memory is host memory, and launches run the kernels of this crate on the CPU, one
// after the other. It counts all calls, and launches of unknown kernels fail.

#include "kernels.cu"
#include "launches.h"
#include <pthread.h>
#include <stdio.h>

typedef unsigned long long Pointer;

static struct {
    long launches, calls, sets, to_device, to_host, copies, allocations, frees, events, pinned, waits, event_waits;
    double bytes, live, peak;
} counts;
static struct {
    char name[128];
    long count;
} named[1024];
static int names;

static void count(const char *name) {
    for (int i = 0; i < names; i++)
        if (!strcmp(named[i].name, name)) {
            named[i].count++;
            return;
        }
    if (names < 1024) {
        snprintf(named[names].name, 128, "%s", name);
        named[names++].count = 1;
    }
}

void mock_call(const char *name) {
    counts.calls++;
    count(name);
}

void mock_reset(void) {
    double live = counts.live;
    memset(&counts, 0, sizeof counts);
    counts.live = counts.peak = live;
    names = 0;
}

// Writes the counts since the start, or the last reset, as a line of JSON.
void mock_report(FILE *to) {
    fprintf(to,
            "{\"kernels\": %ld, \"library\": %ld, \"memset\": %ld, \"to_device\": %ld, \"to_host\": %ld, \"copies\": %ld, "
            "\"allocations\": %ld, \"megabytes\": %.1f, \"peak_megabytes\": %.1f, \"events\": %ld, \"pinned\": %ld, "
            "\"waits\": %ld, \"event_waits\": %ld, \"by_name\": {",
            counts.launches, counts.calls, counts.sets, counts.to_device, counts.to_host, counts.copies,
            counts.allocations, counts.bytes / 1e6, counts.peak / 1e6, counts.events, counts.pinned, counts.waits,
            counts.event_waits);
    for (int i = 0; i < names; i++) fprintf(to, "%s\"%s\": %ld", i ? ", " : "", named[i].name, named[i].count);
    fprintf(to, "}}\n");
    fflush(to);
}

static void at_end(void) { mock_report(stderr); }

// How many devices there are: as many as CUDA_VISIBLE_DEVICES has numbers, one where it is not set.
static int devices(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!visible || !*visible) return !visible;
    int count = 1;
    for (; *visible; visible++) count += *visible == ',';
    return count;
}

int cuInit(unsigned flags) {
    static int registered;
    if (!registered && getenv("MOCK_CUDA_REPORT")) atexit(at_end);
    registered = 1;
    return devices() ? 0 : 100;
}
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *v) { *v = devices(); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < devices() ? 0 : 101; }
int cuDeviceGetAttribute(int *v, int attribute, int device) { *v = attribute == 75 ? 9 : attribute == 76 ? 0 : 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)0x1234; return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)0x1234; return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)0x77; return 0; }
int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = (void *)0x77; return 0; }
int cuStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)0x99; counts.events++; return 0; }

// Whether calls are only counted and nothing is computed; then all values read back are 0.
int counting(void) { return getenv("MOCK_CUDA_COUNT") != 0; }

// A block's size stands before it.
int cuMemAllocAsync(Pointer *pointer, size_t bytes, void *stream) {
    char *block = aligned_alloc(256, (bytes + 511) / 256 * 256 + 256);
    if (!block) return 2;
    *(size_t *)block = bytes;
    // Uninitialised memory reads as NaN.
    if (!counting()) memset(block + 256, 0xff, bytes);
    *pointer = (Pointer)(block + 256);
    counts.allocations++;
    counts.bytes += bytes;
    counts.live += bytes;
    if (counts.live > counts.peak) counts.peak = counts.live;
    return 0;
}
int cuMemAlloc_v2(Pointer *pointer, size_t bytes) { return cuMemAllocAsync(pointer, bytes, 0); }
int cuMemFreeAsync(Pointer pointer, void *stream) {
    char *block = (char *)pointer - 256;
    counts.frees++;
    counts.live -= *(size_t *)block;
    free(block);
    return 0;
}
int cuMemFree_v2(Pointer pointer) { return cuMemFreeAsync(pointer, 0); }
int cuMemsetD8Async(Pointer p, unsigned char v, size_t n, void *s) { counts.sets++; memset((void *)p, v, n); return 0; }
int cuMemsetD8_v2(Pointer p, unsigned char v, size_t n) { return cuMemsetD8Async(p, v, n, 0); }
int cuMemcpyHtoDAsync_v2(Pointer d, const void *s, size_t n, void *stream) { counts.to_device++; memcpy((void *)d, s, n); return 0; }
int cuMemcpyHtoD_v2(Pointer d, const void *s, size_t n) { return cuMemcpyHtoDAsync_v2(d, s, n, 0); }
int cuMemcpyDtoHAsync_v2(void *d, Pointer s, size_t n, void *stream) {
    counts.to_host++;
    if (counting()) memset(d, 0, n);
    else memcpy(d, (void *)s, n);
    return 0;
}
int cuMemcpyDtoH_v2(void *d, Pointer s, size_t n) { return cuMemcpyDtoHAsync_v2(d, s, n, 0); }
int cuMemcpyDtoDAsync_v2(Pointer d, Pointer s, size_t n, void *stream) { counts.copies++; memmove((void *)d, (void *)s, n); return 0; }
int cuMemcpyDtoD_v2(Pointer d, Pointer s, size_t n) { return cuMemcpyDtoDAsync_v2(d, s, n, 0); }

int cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
    counts.pinned++;
    *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *p ? 0 : 2;
}
int cuMemFreeHost(void *p) { free(p); return 0; }
// Peaks: attribute 6 of reserved memory, 8 of used memory.
int cuMemPoolGetAttribute(void *pool, int attribute, void *value) {
    *(unsigned long long *)value = attribute == 6 || attribute == 8 ? counts.peak : 0;
    return 0;
}
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    const char *megabytes = getenv("MOCK_CUDA_MEGABYTES");
    *free = *total = (megabytes ? strtoull(megabytes, 0, 10) : 1024) << 20;
    return 0;
}
int cuDeviceGetName(char *name, int len, int device) { snprintf(name, len, "mock CUDA"); return 0; }
int cuStreamSynchronize(void *stream) { counts.waits++; return 0; }
int cuEventSynchronize(void *event) { counts.event_waits++; return 0; }
int cuCtxSynchronize(void) { counts.waits++; return 0; }

int cuModuleLoadData(void **module, const void *image) { *module = (void *)0x55; return 0; }
int cuModuleLoad(void **module, const char *path) { *module = (void *)0x55; return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) { *function = strdup(name); return 0; }

// Candle's own kernels, as far as they are met. Where `info` is not null, it is the dimensions and the strides.
static size_t place(size_t i, size_t dims, const size_t *info, size_t which) {
    if (!info) return i;
    size_t at = 0;
    for (size_t d = dims; d-- > 0; i /= info[d]) at += i % info[d] * info[(1 + which) * dims + d];
    return at;
}
#define CANDLE_UNARY(name, from, to, expression) \
    static void name(void **a) { \
        size_t n = *(size_t *)a[0], dims = *(size_t *)a[1]; \
        const size_t *info = *(const size_t **)a[2]; \
        const from *x = *(const from **)a[3]; \
        to *y = *(to **)a[4]; \
        for (size_t i = 0; i < n; i++) { from v = x[place(i, dims, info, 0)]; y[i] = expression; } \
    }
#define CANDLE_BINARY(name, expression) \
    static void name(void **a) { \
        size_t n = *(size_t *)a[0], dims = *(size_t *)a[1]; \
        const size_t *info = *(const size_t **)a[2]; \
        const float *left = *(const float **)a[3], *right = *(const float **)a[4]; \
        float *z = *(float **)a[5]; \
        for (size_t i = 0; i < n; i++) { \
            float x = left[place(i, dims, info, 0)], y = right[place(i, dims, info, 1)]; \
            z[i] = expression; \
        } \
    }
CANDLE_UNARY(cast_f32_bf16, float, bf16, narrow_bf16(v))
CANDLE_UNARY(cast_bf16_f32, bf16, float, wide_bf16(v))
CANDLE_UNARY(ucopy_f32, float, float, v)
CANDLE_UNARY(urecip_f32, float, float, 1.0f / v)
CANDLE_UNARY(usqrt_f32, float, float, sqrtf(v))
CANDLE_UNARY(usqr_f32, float, float, v * v)
CANDLE_UNARY(uabs_f32, float, float, fabsf(v))
CANDLE_UNARY(urelu_f32, float, float, v > 0.0f ? v : 0.0f)
CANDLE_UNARY(uexp_f32, float, float, expf(v))
CANDLE_UNARY(ugelu_erf_f32, float, float, 0.5f * v * erfcf(-v * 0.70710678f))
CANDLE_UNARY(cast_u8_f32, uint8_t, float, v)
CANDLE_BINARY(badd_f32, x + y)
CANDLE_BINARY(bsub_f32, x - y)
CANDLE_BINARY(bmul_f32, x * y)
CANDLE_BINARY(bdiv_f32, x / y)
#define CANDLE_COPY(name, type) \
    static void name(void **a) { \
        const type *from = *(const type **)a[0]; \
        type *to = *(type **)a[1]; \
        size_t rows = *(uint32_t *)a[2], columns = *(uint32_t *)a[3]; \
        size_t from_pitch = *(uint32_t *)a[4], to_pitch = *(uint32_t *)a[5]; \
        for (size_t i = 0; i < rows; i++) memmove(to + i * to_pitch, from + i * from_pitch, columns * sizeof(type)); \
    }
CANDLE_COPY(copy2d_f32, float)
CANDLE_COPY(copy2d_bf16, bf16)
CANDLE_UNARY(ucopy_bf16, bf16, bf16, v)
static void fast_max_f32(void **a) {
    size_t each = *(size_t *)a[1], dims = *(size_t *)a[2];
    const size_t *info = *(const size_t **)a[3];
    const float *x = *(const float **)a[4];
    float *y = *(float **)a[5];
    for (size_t i = 0; i < gridDim.x; i++) {
        y[i] = -INFINITY;
        for (size_t j = 0; j < each; j++) y[i] = fmaxf(y[i], x[place(i * each + j, dims, info, 0)]);
    }
}
static void const_set_bf16(void **a) {
    size_t n = *(size_t *)a[0];
    bf16 v = *(bf16 *)a[3], *y = *(bf16 **)a[4];
    for (size_t i = 0; i < n; i++) y[i] = v;
}
static void affine_f32(void **a) {
    size_t n = *(size_t *)a[0];
    const float *x = *(const float **)a[3];
    float *y = *(float **)a[4], scale = *(float *)a[5], shift = *(float *)a[6];
    for (size_t i = 0; i < n; i++) y[i] = x[i] * scale + shift;
}
static void sum_f32(void **a, size_t count) {
    size_t each = *(size_t *)a[1], dims = *(size_t *)a[2];
    const size_t *info = *(const size_t **)a[3];
    const float *x = *(const float **)a[4];
    float *y = *(float **)a[5];
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t j = 0; j < each; j++) sum += x[place(i * each + j, dims, info, 0)];
        y[i] = (float)sum;
    }
}
static void fast_sum_small_f32(void **a) { sum_f32(a, *(size_t *)a[0]); }
static void fast_sum_f32(void **a) { sum_f32(a, gridDim.x); }
static void const_set_f32(void **a) {
    size_t n = *(size_t *)a[0];
    float v = *(float *)a[3], *y = *(float **)a[4];
    for (size_t i = 0; i < n; i++) y[i] = v;
}
static const struct { const char *name; void (*call)(void **); } CANDLE[] = {
    {"const_set_f32", const_set_f32}, {"fast_sum_small_f32", fast_sum_small_f32}, {"fast_sum_f32", fast_sum_f32},
    {"cast_f32_bf16", cast_f32_bf16}, {"cast_bf16_f32", cast_bf16_f32}, {"ucopy_f32", ucopy_f32},
    {"urecip_f32", urecip_f32}, {"usqrt_f32", usqrt_f32}, {"badd_f32", badd_f32}, {"usqr_f32", usqr_f32},
    {"uabs_f32", uabs_f32}, {"urelu_f32", urelu_f32}, {"cast_u8_f32", cast_u8_f32}, {"copy2d_f32", copy2d_f32},
    {"copy2d_bf16", copy2d_bf16}, {"ucopy_bf16", ucopy_bf16}, {"fast_max_f32", fast_max_f32},
    {"const_set_bf16", const_set_bf16}, {"bsub_f32", bsub_f32},
    {"uexp_f32", uexp_f32}, {"ugelu_erf_f32", ugelu_erf_f32}, {"bmul_f32", bmul_f32}, {"bdiv_f32", bdiv_f32}, {"affine_f32", affine_f32},
};

static int launched(const char *name, Dim grid, Dim block, void **arguments) {
    counts.launches++;
    count(name);
    if (counting()) return 0;
    for (size_t i = 0; i < sizeof LAUNCHES / sizeof *LAUNCHES; i++)
        if (!strcmp(LAUNCHES[i].name, name)) {
            emulate(LAUNCHES[i].call, LAUNCHES[i].waits, grid, block, arguments);
            return 0;
        }
    for (size_t i = 0; i < sizeof CANDLE / sizeof *CANDLE; i++)
        if (!strcmp(CANDLE[i].name, name)) {
            gridDim = grid;
            CANDLE[i].call(arguments);
            return 0;
        }
    fprintf(stderr, "mock CUDA: no kernel %s\n", name);
    return 500;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; // one stream, one device
    pthread_mutex_lock(&turn);
    int status = launched(function, (Dim){gx, gy, gz}, (Dim){bx, by, bz}, arguments);
    pthread_mutex_unlock(&turn);
    return status;
}
int cuGetErrorName(int error, const char **text) { *text = "MOCK"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = error == 500 ? "the mock has no such kernel" : "MOCK"; return 0; }
int cuOccupancyMaxPotentialBlockSize(int *grid, int *block, void *f, void *g, size_t shared, int limit) { *grid = 132; *block = 256; return 0; }
