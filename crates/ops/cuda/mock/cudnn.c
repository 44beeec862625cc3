// cuDNN's convolutions by their definition, channels-last, on the host.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern void mock_call(const char *name);
extern int counting(void);

enum { F32 = 0, BF16 = 9 };
typedef struct { int type, dims[4]; } Description; // tensor: n c h w; filter: k c r s; convolution: pad, stride

static int create(void **description) { *description = calloc(1, sizeof(Description)); return 0; }
int cudnnCreate(void **handle) { *handle = (void *)1; return 0; }
int cudnnCreateTensorDescriptor(void **d) { return create(d); }
int cudnnCreateFilterDescriptor(void **d) { return create(d); }
int cudnnCreateConvolutionDescriptor(void **d) { return create(d); }
int cudnnDestroyTensorDescriptor(void *d) { free(d); return 0; }
int cudnnDestroyFilterDescriptor(void *d) { free(d); return 0; }
int cudnnDestroyConvolutionDescriptor(void *d) { free(d); return 0; }
int cudnnSetTensor4dDescriptor(Description *d, int format, int type, int n, int c, int h, int w) {
    *d = (Description){type, {n, c, h, w}};
    return format == 1 ? 0 : 3000; // NHWC alone
}
int cudnnSetFilter4dDescriptor(Description *d, int type, int format, int k, int c, int h, int w) {
    *d = (Description){type, {k, c, h, w}};
    return format == 1 ? 0 : 3000;
}
int cudnnSetConvolution2dDescriptor(Description *d, int pad_h, int pad_w, int u, int v, int dilation_h, int dilation_w,
                                    int mode, int type) {
    *d = (Description){type, {pad_h, u, mode, 0}};
    return mode == 1 && pad_h == pad_w && u == v && dilation_h == 1 ? 0 : 3000; // cross-correlation alone
}
int cudnnSetConvolutionMathType(void *d, int type) { return 0; }
int cudnnSetConvolutionGroupCount(void *d, int count) { return 0; }
int cudnnSetStream(void *handle, void *stream) { return 0; }

struct Performance { int algorithm, status; float time; size_t memory; int deterministic, math, reserved[3]; };
#define ALGORITHM(pass) \
    int cudnnGetConvolution##pass##Algorithm_v7(void *h, void *a, void *b, void *c, void *d, int n, int *got, \
                                                struct Performance *found) { \
        mock_call("cudnnGetConvolution" #pass "Algorithm_v7"); \
        *got = 1; \
        *found = (struct Performance){1}; \
        return 0; \
    } \
    int cudnnGetConvolution##pass##WorkspaceSize(void *h, void *a, void *b, void *c, void *d, int algorithm, size_t *bytes) { \
        *bytes = 1 << 20; \
        return 0; \
    }
ALGORITHM(Forward)
ALGORITHM(BackwardData)
ALGORITHM(BackwardFilter)

static float get(const void *p, int type, size_t at) {
    if (type == F32) return ((const float *)p)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)p)[at] << 16;
    float v;
    memcpy(&v, &bits, 4);
    return v;
}
static void put(void *p, int type, size_t at, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if (type == F32) ((float *)p)[at] = v;
    else ((uint16_t *)p)[at] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

enum { FORWARD, DATA, FILTER };

// Values, or zeros where there are none.
static double *wide(const void *from, int type, size_t count) {
    double *values = calloc(count ? count : 1, sizeof *values);
    if (from) for (size_t at = 0; at < count; at++) values[at] = get(from, type, at);
    return values;
}

// One pass; the sums are of `double`.
static int pass(int which, const Description *xd, const void *x, const Description *wd, const void *w,
                const Description *cd, const Description *yd, const void *y, void *out, const float *beta) {
    if (counting()) return 0;
    const int n = xd->dims[0], ci = xd->dims[1], h = xd->dims[2], width = xd->dims[3];
    const int co = wd->dims[0], kh = wd->dims[2], kw = wd->dims[3], oh = yd->dims[2], ow = yd->dims[3];
    const int pad = cd->dims[0], stride = cd->dims[1], type = xd->type;
    size_t xs = (size_t)n * h * width * ci, ws = (size_t)co * kh * kw * ci, ys = (size_t)n * oh * ow * co;
    double *in = wide(x, type, xs), *weight = wide(w, type, ws), *of = wide(y, type, ys);
    size_t len = which == FORWARD ? ys : which == DATA ? xs : ws;
    double *sums = which == FORWARD ? of : which == DATA ? in : weight;
    for (int image = 0; image < n; image++)
        for (int oy = 0; oy < oh; oy++)
            for (int ox = 0; ox < ow; ox++)
                for (int ky = 0; ky < kh; ky++)
                    for (int kx = 0; kx < kw; kx++) {
                        int iy = oy * stride + ky - pad, ix = ox * stride + kx - pad;
                        if (iy < 0 || iy >= h || ix < 0 || ix >= width) continue;
                        double *restrict xp = in + (((size_t)image * h + iy) * width + ix) * ci;
                        double *restrict yp = of + (((size_t)image * oh + oy) * ow + ox) * co;
                        for (int o = 0; o < co; o++) {
                            double *restrict wp = weight + (((size_t)o * kh + ky) * kw + kx) * ci;
                            double sum = 0.0, factor = yp[o];
                            if (which == FORWARD) {
                                for (int i = 0; i < ci; i++) sum += xp[i] * wp[i];
                                yp[o] += sum;
                            } else if (which == DATA)
                                for (int i = 0; i < ci; i++) xp[i] += factor * wp[i];
                            else
                                for (int i = 0; i < ci; i++) wp[i] += factor * xp[i];
                        }
                    }
    for (size_t at = 0; at < len; at++) put(out, type, at, (float)(sums[at] + (*beta ? *beta * get(out, type, at) : 0.0)));
    free(in);
    free(weight);
    free(of);
    return 0;
}
int cudnnConvolutionForward(void *h, const void *alpha, void *xd, const void *x, void *wd, const void *w, void *cd,
                            int algorithm, void *space, size_t bytes, const void *beta, void *yd, void *y) {
    mock_call("cudnnConvolutionForward");
    return pass(FORWARD, xd, x, wd, w, cd, yd, 0, y, beta);
}
int cudnnConvolutionBackwardData(void *h, const void *alpha, void *wd, const void *w, void *yd, const void *dy, void *cd,
                                 int algorithm, void *space, size_t bytes, const void *beta, void *xd, void *dx) {
    mock_call("cudnnConvolutionBackwardData");
    return pass(DATA, xd, 0, wd, w, cd, yd, dy, dx, beta);
}
int cudnnConvolutionBackwardFilter(void *h, const void *alpha, void *xd, const void *x, void *yd, const void *dy, void *cd,
                                   int algorithm, void *space, size_t bytes, const void *beta, void *wd, void *dw) {
    mock_call("cudnnConvolutionBackwardFilter");
    return pass(FILTER, xd, x, wd, 0, cd, yd, dy, dw, beta);
}
