/* Puts paths into the page. See html.h. */
#include "camera/html.h"

#include "camera/check.h"
#include "camera/plot_internal.h"
#include "camera/resample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text under construction; the first failure is kept, so that writing needs no checks. */
typedef struct text {
    char *bytes;
    size_t size, capacity;
    swm_error error;
} text;

static void put_bytes(text *t, const char *bytes, size_t size)
{
    if (swm_failed(&t->error)) return;
    if (t->size + size + 1 > t->capacity) {
        const size_t capacity = 2 * (t->size + size + 1);
        char *grown = realloc(t->bytes, capacity);
        if (grown == NULL) {
            swm_fail(&t->error, "no memory for a page of %zu bytes", capacity);
            return;
        }
        t->bytes = grown;
        t->capacity = capacity;
    }
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
    t->bytes[t->size] = '\0';
}

static void put(text *t, const char *words) { put_bytes(t, words, strlen(words)); }

/* Six decimals without trailing zeros, built from integers because the decimal point of printf is the locale's. */
static void put_number(text *t, double value)
{
    char digits[48];
    const long long millionths = llround(fabs(fmax(-1e9, fmin(1e9, value))) * 1e6);
    int n = snprintf(digits, sizeof digits, "%s%lld.%06lld", value < 0 && millionths > 0 ? "-" : "",
                     millionths / 1000000, millionths % 1000000);
    while (digits[n - 1] == '0') n--;
    if (digits[n - 1] == '.') n--;
    put_bytes(t, digits, (size_t)n);
}

/* A string of JSON in ASCII that cannot end the script it stands in. Bytes that are no UTF-8 become question marks: those
 * of a file name may be anything. */
static void put_string(text *t, const char *words)
{
    put(t, "\"");
    for (const uint8_t *p = (const uint8_t *)words; *p != '\0';) {
        char out[16];
        const int follow = *p < 0x80                 ? 0
                           : *p >= 0xc2 && *p < 0xe0 ? 1
                           : *p >= 0xe0 && *p < 0xf0 ? 2
                           : *p >= 0xf0 && *p < 0xf5 ? 3
                                                     : -1;
        uint32_t code = follow <= 0 ? *p : *p & (0x3fu >> follow);
        int n = 1;
        while (n <= follow && (p[n] & 0xc0) == 0x80) code = code << 6 | (p[n++] & 0x3fu);
        static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
        if (follow < 0 || n <= follow || code < least[follow] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            code = '?';
        if (code >= 0x10000)
            snprintf(out, sizeof out, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((code - 0x10000) >> 10)),
                     (unsigned)(0xdc00 + (code & 0x3ff)));
        else if (code < 0x20 || code >= 0x7f || strchr("<>&\"\\'", (int)code) != NULL)
            snprintf(out, sizeof out, "\\u%04x", (unsigned)code);
        else
            snprintf(out, sizeof out, "%c", (int)code);
        put(t, out);
        p += n;
    }
    put(t, "\"");
}

static void put_color(text *t, const char *key, uint32_t color)
{
    char out[40];
    snprintf(out, sizeof out, ",\"%s\":\"#%06x\"", key, (unsigned)color);
    put(t, out);
}

/* A pose a line: x, y, z and the quaternion w, x, y, z. */
static void put_poses(text *t, const swm_poses *poses)
{
    put(t, ",\"poses\":[");
    for (int64_t i = 0; i < poses->count; i++) {
        double pose[16], row[7];
        swm_se3_from_floats(pose, poses->c2w + 16 * i);
        swm_quaternion_from_pose(row + 3, pose);
        for (int k = 0; k < 3; k++) row[k] = pose[4 * k + 3];
        put(t, i > 0 ? ",\n[" : "\n[");
        for (int k = 0; k < 7; k++) {
            if (k > 0) put(t, ",");
            put_number(t, row[k]);
        }
        put(t, "]");
    }
    put(t, "]");
}

static void put_data(text *t, const plot_page *page)
{
    const swm_camera_limits limits = swm_camera_limits_default();
    put(t, "{\"title\":");
    put_string(t, page->title);
    put(t, ",\"fps\":");
    put_number(t, page->fps);
    put(t, ",\"limits\":{\"step\":");
    put_number(t, limits.step);
    put(t, ",\"turn\":");
    put_number(t, limits.turn);
    put(t, "},\"paths\":[");
    for (int i = 0; i < page->count; i++) {
        const plot_colors colors = swm_plot_colors(page, i);
        put(t, i > 0 ? ",\n{\"name\":" : "\n{\"name\":");
        put_string(t, page->paths[i].name != NULL ? page->paths[i].name : "path");
        put_color(t, "color", colors.end);
        put_color(t, "pale", colors.begin);
        put_poses(t, page->paths[i].poses);
        put(t, "}");
    }
    put(t, "]}");
}

char *swm_camera_html(const swm_plot_path *paths, int count, const swm_plot_options *options, swm_error *error)
{
    static const char marker[] = "/*DATA*/null";
    plot_page page;
    if (swm_plot_prepare(&page, paths, count, options, error) < 0) return NULL;
    int64_t poses = 0;
    for (int i = 0; i < count; i++) poses += paths[i].poses->count;
    if (poses > SWM_HTML_MOST_POSES) {
        swm_fail(error, "a page with %lld poses; it holds at most %d: resample the paths to fewer frames",
                 (long long)poses, SWM_HTML_MOST_POSES);
        return NULL;
    }
    const char *place = strstr(swm_viewer_html, marker);
    SWM_REQUIRE(place != NULL, "the page has no place for its data");
    text t = {0};
    put_bytes(&t, swm_viewer_html, (size_t)(place - swm_viewer_html));
    put_data(&t, &page);
    put(&t, place + sizeof marker - 1);
    if (!swm_failed(&t.error)) return t.bytes;
    swm_fail(error, "%s", t.error.text);
    free(t.bytes);
    return NULL;
}
