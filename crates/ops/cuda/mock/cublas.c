// The one product of matrices that candle asks cuBLAS for, of floats, column by column.

int cublasCreate_v2(void **h) { *h = (void *)1; return 0; }
int cublasDestroy_v2(void *h) { return 0; }
int cublasSetStream_v2(void *h, void *s) { return 0; }
int cublasSetWorkspace_v2(void *h, void *s, unsigned long n) { return 0; }
int cublasSetMathMode(void *h, int mode) { return 0; }

int cublasSgemmStridedBatched(void *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                              long long sa, const float *b, int ldb, long long sb, const float *beta, float *c, int ldc,
                              long long sc, int batch) {
    mock_call("cublasSgemmStridedBatched");
    for (int at = 0; at < batch; at++, a += sa, b += sb, c += sc)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                double sum = 0;
                for (int p = 0; p < k; p++)
                    sum += (double)(ta ? a[p + (long)i * lda] : a[i + (long)p * lda]) * (tb ? b[j + (long)p * ldb] : b[p + (long)j * ldb]);
                float *to = &c[i + (long)j * ldc];
                *to = (float)(*alpha * sum + (*beta ? *beta * *to : 0.0));
            }
    return 0;
}
int cublasGemmStridedBatchedEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a,
                               int lda, long long sa, const void *b, int type_b, int ldb, long long sb, const void *beta,
                               void *c, int type_c, int ldc, long long sc, int batch, int compute, int algorithm) {
    if (type_a || type_b || type_c) return 15; // floats alone
    return cublasSgemmStridedBatched(h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch);
}
