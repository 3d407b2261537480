/* Resize, crop and normalise an 8-bit picture in one go, with the bits that Pillow and torchvision give.
 *
 * The method is the separable convolution that Pillow documents for Image.resize: for every output
 * pixel the filter's weights are computed in double precision, divided by their sum and rounded to
 * fixed point with 22 fractional bits; rows are filtered first and rounded to bytes, then columns.
 * A pass is left out where the size does not change, and newer versions of Pillow take the columns
 * first for some sizes, so the caller says which comes first.  Only what the crop window needs is
 * computed: a pixel does not depend on its neighbours in the output, so the bits stay the same.
 *
 * The last step replaces each byte by its normalised float32 from a table of 256 per channel and
 * writes it to the caller's array, channels first; or, for a model that normalises itself, the bytes are
 * written as they are, channels last.  The interpreter lock is released throughout.
 *
 * Floating-point contraction must be off (setup.py sees to it): a fused multiply-add would round
 * the weights differently.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define HAVE_AVX2_PATH 1
#include <immintrin.h>
#else
#define HAVE_AVX2_PATH 0
#endif

#define BITS 22
#define HALF (1 << (BITS - 1))
#define PAD 64 /* bytes behind every row that vector code may read or write */
#define BEHIND 5 /* bytes behind a row's last pixel that filter_rows_rgb reads: the next row's, where that is so long */
#define PI 3.14159265358979323846

enum { BOX = 0, BILINEAR = 1, HAMMING = 2, BICUBIC = 3, LANCZOS = 4, FILTERS = 5 };

static const double SUPPORT[FILTERS] = {0.5, 1.0, 1.0, 2.0, 3.0};

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= PI;
    return sin(x) / x;
}

static double weight(int filter, double x) {
    switch (filter) {
        case BOX:
            return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
        case BILINEAR:
            x = fabs(x);
            return x < 1.0 ? 1.0 - x : 0.0;
        case HAMMING:
            x = fabs(x);
            if (x == 0.0) return 1.0;
            if (x >= 1.0) return 0.0;
            x *= PI;
            return sin(x) / x * (0.54 + 0.46 * cos(x));
        case BICUBIC: { /* Keys' kernel with a = -1/2 */
            const double a = -0.5;
            x = fabs(x);
            if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
            if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
            return 0.0;
        }
        default:
            return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    }
}

/* Weights of the output positions first … first + count - 1 along one axis. */
typedef struct {
    int count;
    int taps;     /* weights stored per position, an even number */
    int *start;   /* first input index of each position */
    int *used;    /* how many inputs it reads */
    int32_t *k;   /* count × taps, fixed point, zero behind `used` */
} Axis;

static void axis_free(Axis *axis) {
    free(axis->start);
    free(axis->used);
    free(axis->k);
}

static int axis_make(Axis *axis, int filter, int in_size, int out_size, int first, int count) {
    double scale = (double)in_size / out_size;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = SUPPORT[filter] * stretch;
    int taps = (int)ceil(support) * 2 + 1;
    int stored = (taps + 1) & ~1;
    double *w = malloc(sizeof(double) * (size_t)taps);
    axis->count = count;
    axis->taps = stored;
    axis->start = malloc(sizeof(int) * (size_t)count);
    axis->used = malloc(sizeof(int) * (size_t)count);
    axis->k = calloc((size_t)count * (size_t)stored, sizeof(int32_t));
    if (!w || !axis->start || !axis->used || !axis->k) {
        free(w);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        double centre = (first + i + 0.5) * scale;
        double inverse = 1.0 / stretch;
        double sum = 0.0;
        int low = (int)(centre - support + 0.5);
        int high = (int)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > in_size) high = in_size;
        int n = high - low;
        for (int j = 0; j < n; j++) {
            w[j] = weight(filter, (j + low - centre + 0.5) * inverse);
            sum += w[j];
        }
        int32_t *k = axis->k + (size_t)i * (size_t)stored;
        for (int j = 0; j < n; j++) {
            double v = sum != 0.0 ? w[j] / sum : w[j];
            k[j] = (int32_t)((v < 0 ? -0.5 : 0.5) + v * (1 << BITS));
        }
        axis->start[i] = low;
        axis->used[i] = n;
    }
    free(w);
    return 0;
}

static inline uint8_t clip(int32_t sum) {
    int32_t v = sum >> BITS;
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

static void filter_row(const uint8_t *row, uint8_t *out, const Axis *axis, int channels) {
    for (int x = 0; x < axis->count; x++) {
        const int32_t *k = axis->k + (size_t)x * (size_t)axis->taps;
        const uint8_t *p = row + (size_t)axis->start[x] * (size_t)channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = HALF;
            for (int j = 0; j < axis->used[x]; j++) sum += p[j * channels + c] * k[j];
            *out++ = clip(sum);
        }
    }
}

static void filter_column(const uint8_t *rows, size_t stride, const int32_t *k, int used, int width, uint8_t *out) {
    for (int i = 0; i < width; i++) {
        int32_t sum = HALF;
        for (int j = 0; j < used; j++) sum += rows[(size_t)j * stride + (size_t)i] * k[j];
        out[i] = clip(sum);
    }
}

#if HAVE_AVX2_PATH
static int has_avx2(void) {
    static int known = -1;
    if (known < 0) {
        __builtin_cpu_init();
        known = __builtin_cpu_supports("avx2") ? 1 : 0;
    }
    return known;
}

/* Four rows of three channels at once; two taps a step.  Reads up to BEHIND bytes behind a row's last pixel
 * and writes one byte behind the last output pixel. */
__attribute__((target("avx2"))) static void filter_rows_rgb(
    const uint8_t *const rows[4], uint8_t *const outs[4], const Axis *axis) {
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i twice = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i half = _mm256_setr_epi32(HALF, HALF, HALF, HALF, 0, 0, 0, 0);
    for (int x = 0; x < axis->count; x++) {
        const int32_t *k = axis->k + (size_t)x * (size_t)axis->taps;
        size_t offset = (size_t)axis->start[x] * 3;
        int pairs = (axis->used[x] + 1) / 2;
        __m256i s0 = half, s1 = half, s2 = half, s3 = half;
        for (int j = 0; j < pairs; j++, offset += 6) {
            __m256i kk = _mm256_permutevar8x32_epi32(
                _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(k + 2 * j))), twice);
#define STEP(sum, row)                                                                                     \
    sum = _mm256_add_epi32(                                                                                \
        sum, _mm256_mullo_epi32(                                                                           \
                 kk, _mm256_cvtepu8_epi32(                                                                 \
                         _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)((row) + offset)), spread))))
            STEP(s0, rows[0]);
            STEP(s1, rows[1]);
            STEP(s2, rows[2]);
            STEP(s3, rows[3]);
#undef STEP
        }
#define FOLD(s) \
    _mm_srai_epi32(_mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)), BITS)
        __m128i bytes = _mm_packus_epi16(
            _mm_packs_epi32(FOLD(s0), FOLD(s1)), _mm_packs_epi32(FOLD(s2), FOLD(s3)));
#undef FOLD
        int32_t packed[4];
        _mm_storeu_si128((__m128i *)packed, bytes);
        for (int r = 0; r < 4; r++) memcpy(outs[r] + (size_t)x * 3, &packed[r], 4);
    }
}

/* Works on `blocks` whole blocks of 32 bytes, in the rows as in the output. */
__attribute__((target("avx2"))) static void filter_column_avx2(
    const uint8_t *rows, size_t stride, const int32_t *k, int used, int blocks, uint8_t *out) {
    for (int i = 0; i < 32 * blocks; i += 32) {
        __m256i s0 = _mm256_set1_epi32(HALF), s1 = s0, s2 = s0, s3 = s0;
        const uint8_t *p = rows + i;
        for (int j = 0; j < used; j++, p += stride) {
            __m256i kk = _mm256_set1_epi32(k[j]);
#define STEP(sum, at)                                                                                      \
    sum = _mm256_add_epi32(                                                                                \
        sum, _mm256_mullo_epi32(kk, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + (at))))))
            STEP(s0, 0);
            STEP(s1, 8);
            STEP(s2, 16);
            STEP(s3, 24);
#undef STEP
        }
        __m256i low = _mm256_packs_epi32(_mm256_srai_epi32(s0, BITS), _mm256_srai_epi32(s1, BITS));
        __m256i high = _mm256_packs_epi32(_mm256_srai_epi32(s2, BITS), _mm256_srai_epi32(s3, BITS));
        __m256i bytes = _mm256_packus_epi16(low, high); /* 4-byte groups 0 2 4 6 | 1 3 5 7 */
        bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(out + i), bytes);
    }
}
#endif

typedef struct {
    const uint8_t *pixels;
    int height, width, channels;
    int resized_h, resized_w;
    int filter;
    int top, left, out_h, out_w; /* the window, in pixels of the resized picture; it may reach beyond */
    const uint8_t *fill;
    const float *table; /* channels × 256 */
    float *out;         /* channels × out_h × out_w */
    uint8_t *bytes;     /* out_h × out_w × channels, in place of out; else NULL */
    int columns_first;
    int vector;
} Job;

/* Rows of bytes.  Where `padded` is said of them, PAD bytes may be read behind each; rows that are made have
 * PAD bytes behind them that may be written. */
typedef struct {
    uint8_t *at;
    size_t stride;
    int rows;
} Rows;

static void one_row_down(
    const Job *job, const uint8_t *rows, size_t stride, const Axis *axis, int i, int width, int padded, uint8_t *out) {
    const int32_t *k = axis->k + (size_t)i * (size_t)axis->taps;
    int done = 0;
    (void)job;
    (void)padded;
#if HAVE_AVX2_PATH
    if (job->vector) {
        int blocks = padded ? (width + 31) / 32 : width / 32;
        filter_column_avx2(rows, stride, k, axis->used[i], blocks, out);
        done = blocks * 32;
    }
#endif
    if (done < width) filter_column(rows + done, stride, k, axis->used[i], width - done, out + done);
}

/* All rows of `in` filtered along x.  The last input row is copied first when nothing may be read behind it. */
static int rows_across(const Job *job, const Rows *in, size_t row_bytes, int padded, const Axis *axis, const Rows *out) {
    int r = 0;
#if HAVE_AVX2_PATH
    if (job->vector && job->channels == 3 && (padded || row_bytes >= BEHIND)) {
        uint8_t *last = in->at + (size_t)(in->rows - 1) * in->stride, *copy = NULL;
        if (!padded) {
            copy = malloc(row_bytes + PAD);
            if (!copy) return -1;
            memcpy(copy, last, row_bytes);
            memset(copy + row_bytes, 0, PAD);
            last = copy;
        }
        for (; r < in->rows; r += 4) {
            const uint8_t *from[4];
            uint8_t *to[4];
            for (int i = 0; i < 4; i++) {
                int row = r + i < in->rows ? r + i : in->rows - 1;
                from[i] = row == in->rows - 1 ? last : in->at + (size_t)row * in->stride;
                to[i] = out->at + (size_t)row * out->stride;
            }
            filter_rows_rgb(from, to, axis);
        }
        free(copy);
    }
#endif
    (void)row_bytes;
    (void)padded;
    for (; r < in->rows; r++)
        filter_row(in->at + (size_t)r * in->stride, out->at + (size_t)r * out->stride, axis, job->channels);
    return 0;
}

/* Input rows from … to - 1, filtered along x and cut to columns x0 … x0 + count - 1. */
static int horizontal(const Job *job, int from, int x0, int count, const Rows *temp) {
    size_t row_bytes = (size_t)job->width * (size_t)job->channels;
    Rows source = {(uint8_t *)job->pixels + (size_t)from * row_bytes, row_bytes, temp->rows}; /* only read */
    if (job->resized_w == job->width) {
        for (int r = 0; r < temp->rows; r++)
            memcpy(
                temp->at + (size_t)r * temp->stride,
                source.at + (size_t)r * row_bytes + (size_t)x0 * (size_t)job->channels,
                (size_t)count * (size_t)job->channels);
        return 0;
    }
    Axis axis = {0};
    int status = axis_make(&axis, job->filter, job->width, job->resized_w, x0, count);
    if (status == 0) status = rows_across(job, &source, row_bytes, 0, &axis, temp);
    axis_free(&axis);
    return status;
}

/* One row of bytes (interleaved) to floats (planar), or as it is, at output row y, columns x … */
static void normalise(const Job *job, const uint8_t *row, int count, int y, int x) {
    if (job->bytes) {
        size_t place = ((size_t)y * (size_t)job->out_w + (size_t)x) * (size_t)job->channels;
        memcpy(job->bytes + place, row, (size_t)count * (size_t)job->channels);
        return;
    }
    size_t plane = (size_t)job->out_h * (size_t)job->out_w;
    float *out = job->out + (size_t)y * (size_t)job->out_w + (size_t)x;
    if (job->channels == 3) {
        const float *t0 = job->table, *t1 = t0 + 256, *t2 = t1 + 256;
        float *o0 = out, *o1 = out + plane, *o2 = out + 2 * plane;
        for (int i = 0; i < count; i++, row += 3) {
            o0[i] = t0[row[0]];
            o1[i] = t1[row[1]];
            o2[i] = t2[row[2]];
        }
        return;
    }
    for (int i = 0; i < count; i++) out[i] = job->table[row[i]];
}

static void fill_out(const Job *job) {
    size_t plane = (size_t)job->out_h * (size_t)job->out_w;
    if (job->bytes) {
        for (size_t i = 0; i < plane; i++)
            for (int c = 0; c < job->channels; c++) job->bytes[i * (size_t)job->channels + (size_t)c] = job->fill[c];
        return;
    }
    for (int c = 0; c < job->channels; c++) {
        float value = job->table[c * 256 + job->fill[c]];
        for (size_t i = 0; i < plane; i++) job->out[(size_t)c * plane + i] = value;
    }
}

static int limit(long value, int low, int high) { return value < low ? low : value > high ? high : (int)value; }

/* The part of the window that lies on the picture, in pixels of the resized picture. */
typedef struct {
    int y0, x0, rows, columns;
} Part;

static int run_rows_first(const Job *job, const Part *part) {
    Axis axis = {0};
    int resize_rows = job->resized_h != job->height;
    int from = part->y0, to = part->y0 + part->rows;
    if (resize_rows) {
        if (axis_make(&axis, job->filter, job->height, job->resized_h, part->y0, part->rows) < 0) {
            axis_free(&axis);
            return -1;
        }
        from = axis.start[0];
        to = axis.start[part->rows - 1] + axis.used[part->rows - 1];
    }
    int width = part->columns * job->channels;
    Rows temp = {NULL, (size_t)width + PAD, to - from};
    temp.at = malloc((size_t)temp.rows * temp.stride + PAD);
    uint8_t *line = malloc(temp.stride + PAD);
    int status = !temp.at || !line ? -1 : horizontal(job, from, part->x0, part->columns, &temp);
    for (int i = 0; status == 0 && i < part->rows; i++) {
        const uint8_t *row = temp.at + (size_t)(resize_rows ? axis.start[i] - from : i) * temp.stride;
        if (resize_rows) {
            one_row_down(job, row, temp.stride, &axis, i, width, 1, line);
            row = line;
        }
        normalise(job, row, part->columns, part->y0 + i - job->top, part->x0 - job->left);
    }
    free(temp.at);
    free(line);
    axis_free(&axis);
    return status;
}

/* Both passes are needed here. */
static int run_columns_first(const Job *job, const Part *part) {
    Axis down = {0}, across = {0};
    Rows temp = {NULL, 0, part->rows}, done = {NULL, (size_t)(part->columns * job->channels) + PAD, part->rows};
    int status = axis_make(&down, job->filter, job->height, job->resized_h, part->y0, part->rows);
    if (status == 0) status = axis_make(&across, job->filter, job->width, job->resized_w, part->x0, part->columns);
    if (status == 0) {
        int from = across.start[0], to = across.start[part->columns - 1] + across.used[part->columns - 1];
        size_t row_bytes = (size_t)job->width * (size_t)job->channels;
        int width = (to - from) * job->channels;
        for (int x = 0; x < part->columns; x++) across.start[x] -= from;
        temp.stride = (size_t)width + PAD;
        temp.at = malloc((size_t)temp.rows * temp.stride + PAD);
        done.at = malloc((size_t)done.rows * done.stride + PAD);
        if (!temp.at || !done.at) status = -1;
        for (int i = 0; status == 0 && i < part->rows; i++) {
            const uint8_t *rows =
                job->pixels + (size_t)down.start[i] * row_bytes + (size_t)from * (size_t)job->channels;
            one_row_down(job, rows, row_bytes, &down, i, width, 0, temp.at + (size_t)i * temp.stride);
        }
        if (status == 0) status = rows_across(job, &temp, (size_t)width, 1, &across, &done);
        for (int i = 0; status == 0 && i < part->rows; i++)
            normalise(
                job, done.at + (size_t)i * done.stride, part->columns, part->y0 + i - job->top, part->x0 - job->left);
    }
    free(temp.at);
    free(done.at);
    axis_free(&down);
    axis_free(&across);
    return status;
}

static int run(const Job *job) {
    int y1 = limit((long)job->top + job->out_h, 0, job->resized_h);
    int x1 = limit((long)job->left + job->out_w, 0, job->resized_w);
    Part part = {limit(job->top, 0, job->resized_h), limit(job->left, 0, job->resized_w), 0, 0};
    part.rows = y1 - part.y0;
    part.columns = x1 - part.x0;
    if (part.rows < job->out_h || part.columns < job->out_w) fill_out(job);
    if (part.rows <= 0 || part.columns <= 0) return 0;
    int both = job->resized_h != job->height && job->resized_w != job->width;
    return both && job->columns_first ? run_columns_first(job, &part) : run_rows_first(job, &part);
}

static const char *problem(const Job *job, const Py_buffer *pixels, const Py_buffer *fill, const Py_buffer *table,
                           const Py_buffer *out) {
    const int most = 1 << 20; /* keeps every product below within 64 bits, and sums of weights within 32 */
    if (job->channels != 1 && job->channels != 3) return "channels must be 1 or 3";
    if (job->filter < 0 || job->filter >= FILTERS) return "unknown filter";
    if (job->height < 1 || job->width < 1 || job->resized_h < 1 || job->resized_w < 1) return "a size below 1";
    if (job->out_h < 1 || job->out_w < 1) return "an output size below 1";
    if (job->height > most || job->width > most || job->resized_h > most || job->resized_w > most ||
        job->out_h > most || job->out_w > most)
        return "a size above 1048576";
    if (pixels->len != (Py_ssize_t)job->height * job->width * job->channels) return "pixels do not fit their sizes";
    if (fill->len != job->channels) return "one fill byte per channel";
    if (table->len != (Py_ssize_t)job->channels * 256 * 4) return "the table is float32 (channels, 256)";
    Py_ssize_t values = (Py_ssize_t)job->channels * job->out_h * job->out_w;
    if (job->bytes) return out->len == values ? NULL : "out is uint8 (h, w, channels)";
    if (out->len != values * 4) return "out is float32 (channels, h, w)";
    if ((uintptr_t)out->buf % 4 || (uintptr_t)table->buf % 4) return "floats must be aligned";
    return NULL;
}

static PyObject *resample(PyObject *self, PyObject *args) {
    Py_buffer pixels = {0}, fill = {0}, table = {0}, out = {0};
    Job job = {0};
    int plain = 0, bytes = 0;
    (void)self;
    if (!PyArg_ParseTuple(
            args, "y*(iii)(iip)i(iiii)y*y*w*|pp", &pixels, &job.height, &job.width, &job.channels, &job.resized_h,
            &job.resized_w, &job.columns_first, &job.filter, &job.top, &job.left, &job.out_h, &job.out_w, &fill,
            &table, &out, &plain, &bytes))
        return NULL;
    job.pixels = pixels.buf;
    job.fill = fill.buf;
    job.table = table.buf;
    job.out = out.buf;
    job.bytes = bytes ? out.buf : NULL;
#if HAVE_AVX2_PATH
    job.vector = !plain && has_avx2();
#endif
    const char *wrong = problem(&job, &pixels, &fill, &table, &out);
    int status = 0;
    if (!wrong) {
        Py_BEGIN_ALLOW_THREADS
        status = run(&job);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&fill);
    PyBuffer_Release(&table);
    PyBuffer_Release(&out);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
    }
    if (status < 0) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"resample", resample, METH_VARARGS,
     "resample(pixels, (height, width, channels), (resized_h, resized_w, columns_first), filter, "
     "(top, left, out_h, out_w), "
     "fill, table, out, plain=False, bytes=False)\n\nResize, crop and normalise; plain leaves vector instructions out, "
     "bytes the normalising."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_resample", "Resize, crop and normalise with Pillow's bits.", -1, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__resample(void) { return PyModule_Create(&MODULE); }
