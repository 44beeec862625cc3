// Normal numbers, near enough: sums of twelve uniform ones.

int curandCreateGenerator(void **generator, int kind) { *generator = (void *)1; return 0; }
int curandGenerateNormal(void *generator, float *to, unsigned long count, float mean, float deviation) {
    unsigned long long state = 1;
    for (unsigned long i = 0; i < count; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            sum += (double)(state >> 40) / (1 << 24);
        }
        to[i] = mean + deviation * (float)sum;
    }
    return 0;
}
