/*
 * micro_fp.c: x87, scalar and autovectorized floating point.
 */
#include "micro.h"

#include <math.h>
#include <string.h>

static uint64_t bits_of(double x)
{
    uint64_t u;

    memcpy(&u, &x, sizeof(u));
    return u;
}

/* Matrices of 96 by 96, element by element: SSE2 scalars. */
static __attribute__((optimize("no-tree-vectorize"))) uint64_t fp_matrix(uint64_t n)
{
    enum { N = 96 };
    static double a[N][N], b[N][N], c[N][N];

    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            a[i][k] = i + k * 0.5;
            b[i][k] = i - k * 0.25;
        }
    for (uint64_t r = 0; r < n; r++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                double sum = 0;

                for (int j = 0; j < N; j++)
                    sum += a[i][j] * b[j][k];
                c[i][k] += sum * 1e-3;
            }
    return bits_of(c[N - 1][N / 2]);
}

/* saxpy and friends over packed floats: what gcc makes of plain loops (SSE2). */
static __attribute__((optimize("O3"))) uint64_t fp_packed(uint64_t n)
{
    enum { N = 4096 };
    static float x[N], y[N];
    double sum = 0;

    for (int i = 0; i < N; i++) {
        x[i] = (float)i * 0.001f;
        y[i] = 1.0f;
    }
    for (uint64_t r = 0; r < n; r++)
        for (int i = 0; i < N; i++)
            y[i] = y[i] * 0.999f + x[i] / (1.0f + y[i]);
    for (int i = 0; i < N; i++)
        sum += y[i];
    return bits_of(sum);
}

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static void nbody_step(struct body *b, int count, double dt)
{
    for (int i = 0; i < count; i++)
        for (int k = i + 1; k < count; k++) {
            double dx = b[i].x - b[k].x, dy = b[i].y - b[k].y, dz = b[i].z - b[k].z;
            double d2 = dx * dx + dy * dy + dz * dz;
            double mag = dt / (d2 * sqrt(d2));

            b[i].vx -= dx * b[k].mass * mag;
            b[i].vy -= dy * b[k].mass * mag;
            b[i].vz -= dz * b[k].mass * mag;
            b[k].vx += dx * b[i].mass * mag;
            b[k].vy += dy * b[i].mass * mag;
            b[k].vz += dz * b[i].mass * mag;
        }
    for (int i = 0; i < count; i++) {
        b[i].x += dt * b[i].vx;
        b[i].y += dt * b[i].vy;
        b[i].z += dt * b[i].vz;
    }
}

static uint64_t fp_nbody(uint64_t n)
{
    struct body b[5];

    for (int i = 0; i < 5; i++)
        b[i] = (struct body){ i * 3.1, i * -1.7 + 1, i * 0.3,           0.1 * i,
                              0.2,     -0.1 * i,     40.0 / (1 + i * i) };
    for (uint64_t r = 0; r < n; r++)
        nbody_step(b, 5, 0.001);
    return bits_of(b[0].x + b[4].vz);
}

/* long double: the x87 stack. */
static uint64_t fp_x87(uint64_t n)
{
    long double x = 0.3L, sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        x = 3.9L * x * (1.0L - x);
        sum += sqrtl(x) / (1.0L + x);
    }
    return bits_of((double)sum);
}

static uint64_t fp_libm(uint64_t n)
{
    double sum = 0;

    for (uint64_t i = 1; i <= n; i++) {
        double x = (double)i * 0.001;

        sum += sin(x) * exp(-x * 1e-4) + log(x) + pow(x, 0.37);
    }
    return (uint64_t)(sum * 16); /* libm picks its code by CPU: the last bits differ */
}

/* Mandelbrot: compares and branches on doubles, conversions. */
static uint64_t fp_mandelbrot(uint64_t n)
{
    uint64_t total = 0;

    for (uint64_t py = 0; py < n; py++)
        for (uint64_t px = 0; px < n; px++) {
            double cx = (double)px * 3.0 / (double)n - 2.0, cy = (double)py * 2.0 / (double)n - 1.0;
            double x = 0, y = 0;
            int i = 0;

            while (i < 100 && x * x + y * y < 4.0) {
                double t = x * x - y * y + cx;

                y = 2 * x * y + cy;
                x = t;
                i++;
            }
            total += (uint64_t)i;
        }
    return total;
}

const struct micro micro_fp[] = {
    { "matrix", fp_matrix }, { "packed", fp_packed }, { "nbody", fp_nbody },
    { "x87", fp_x87 },       { "libm", fp_libm },     { "mandelbrot", fp_mandelbrot },
    { NULL, NULL },
};
