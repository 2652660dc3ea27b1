/* The glyphs of the stroke font and their interpreter. See font.h. */
#include "camera/font.h"

#include <math.h>
#include <string.h>

/* Glyphs stand on the baseline y = 0 on a grid where capitals are 7 high and small letters 5. `path` is a row of
 * M x y (begin a stroke), L x y (line to) and A cx cy rx ry from to (begin an elliptical arc, degrees counterclockwise;
 * an L behind it continues from its end). */
typedef struct glyph {
    uint32_t code;
    double width;
    const char *path;
} glyph;

static const glyph GLYPHS[] = {
    {' ', 1.6, ""},
    {'!', .6, "M.3 7L.3 2M.3 .1L.3 0"},
    {'"', 1.8, "M.2 7L.2 5.2M1.6 7L1.6 5.2"},
    {'#', 4.6, "M1.7 6.5L.9 .5M3.7 6.5L2.9 .5M.3 4.5L4.5 4.5M.1 2.4L4.3 2.4"},
    {'$', 4.4, "A2.2 4.8 1.9 1.5 35 270A2.2 1.9 2.1 1.5 90 -145M2.2 7.2L2.2 -.5"},
    {'%', 6.4, "A1.4 5.4 1.3 1.6 0 360A5 1.6 1.3 1.6 0 360M5 7L1.4 0"},
    {'&', 5.4, "M5.2 0L1.3 4.5A2.4 5.5 1.5 1.5 215 -40L1 3.2A2.1 1.8 2 1.8 125 310L5 3.4"},
    {'\'', .6, "M.3 7L.3 5.2"},
    {'(', 1.7, "A2.9 3 2.6 5 125 235"},
    {')', 1.7, "A-1.2 3 2.6 5 55 -55"},
    {'*', 3, "M1.5 7L1.5 4M.2 6.2L2.8 4.8M.2 4.8L2.8 6.2"},
    {'+', 4.4, "M2.2 5.2L2.2 .8M0 3L4.4 3"},
    {',', .8, "M.6 .3L.1 -1.2"},
    {'-', 2.4, "M.2 2.7L2.2 2.7"},
    {'.', .6, "M.3 .1L.3 0"},
    {'/', 3, "M3 7.3L0 -1"},
    {'0', 4.4, "A2.2 3.5 2.1 3.5 0 360"},
    {'1', 4.4, "M.8 5.6L2.6 7L2.6 0"},
    {'2', 4.4, "A2.1 5 1.95 2 165 -35L.2 0L4.2 0"},
    {'3', 4.4, "A2.1 5.25 1.8 1.75 155 -90A2.1 1.85 2.1 1.85 90 -155"},
    {'4', 4.4, "M3.2 0L3.2 7L.1 2L4.4 2"},
    {'5', 4.4, "M3.9 7L.9 7L.5 3.8A2.1 2.25 2.1 2.25 140 -150"},
    {'6', 4.4, "A2.2 2.2 2.05 2.2 0 360A3.6 2.6 3.45 4.4 186 100"},
    {'7', 4.4, "M.1 7L4.3 7L1.6 0"},
    {'8', 4.4, "A2.2 5.3 1.75 1.7 0 360A2.2 1.85 2.1 1.85 0 360"},
    {'9', 4.4, "A2.2 4.8 2.05 2.2 0 360A.8 4.4 3.45 4.4 6 -80"},
    {':', .6, "M.3 4.6L.3 4.5M.3 .1L.3 0"},
    {';', .8, "M.5 4.6L.5 4.5M.6 .3L.1 -1.2"},
    {'<', 4, "M3.9 5L.2 2.9L3.9 .8"},
    {'=', 4.4, "M.1 4L4.3 4M.1 1.9L4.3 1.9"},
    {'>', 4, "M.1 5L3.8 2.9L.1 .8"},
    {'?', 3.6, "A1.8 5.2 1.7 1.8 165 -60L1.8 2M1.8 .1L1.8 0"},
    {'@', 7, "A3.5 3 3.4 4 -35 -325A3.4 3 1.5 1.9 0 360M4.9 4.9L4.9 2.2A5.9 2 1 1 180 330"},
    {'A', 5.2, "M0 0L2.6 7L5.2 0M.9 2.4L4.3 2.4"},
    {'B', 4.6, "M2.4 3.7L.2 3.7M.2 0L.2 7L2.4 7M.2 0L2.4 0A2.4 5.35 1.75 1.65 90 -90A2.4 1.85 2.2 1.85 90 -90"},
    {'C', 5.2, "A3.2 3.5 3 3.5 48 312"},
    {'D', 5.2, "M2 7L.2 7L.2 0L2 0A2 3.5 3.1 3.5 90 -90"},
    {'E', 4.1, "M4 7L.2 7L.2 0L4.1 0M.2 3.7L3.6 3.7"},
    {'F', 3.9, "M3.9 7L.2 7L.2 0M.2 3.6L3.5 3.6"},
    {'G', 5.8, "A3.2 3.5 3 3.5 48 330L5.8 3.3L3.5 3.3"},
    {'H', 5, "M.2 0L.2 7M4.8 0L4.8 7M.2 3.7L4.8 3.7"},
    {'I', .6, "M.3 0L.3 7"},
    {'J', 3, "M2.8 7L2.8 1.8A1.4 1.8 1.4 1.8 0 -165"},
    {'K', 4.7, "M.2 0L.2 7M4.5 7L.2 2.7M1.8 4.3L4.7 0"},
    {'L', 3.8, "M.2 7L.2 0L3.8 0"},
    {'M', 6.2, "M.2 0L.2 7L3.1 1.5L6 7L6 0"},
    {'N', 5.2, "M.2 0L.2 7L5 0L5 7"},
    {'O', 6.2, "A3.1 3.5 3 3.5 0 360"},
    {'P', 4.5, "M.2 0L.2 7L2.4 7M2.4 3.2L.2 3.2A2.4 5.1 2 1.9 90 -90"},
    {'Q', 6.2, "A3.1 3.5 3 3.5 0 360M3.8 1.7L5.8 -.6"},
    {'R', 4.7, "M.2 0L.2 7L2.4 7M2.4 3.2L.2 3.2M2.5 3.2L4.7 0A2.4 5.1 2 1.9 90 -90"},
    {'S', 4.7, "A2.4 5.25 2 1.75 35 270A2.4 1.75 2.2 1.75 90 -150"},
    {'T', 5, "M0 7L5 7M2.5 7L2.5 0"},
    {'U', 5.2, "M.2 7L.2 2.4M5 7L5 2.4A2.6 2.4 2.4 2.4 180 360"},
    {'V', 5.2, "M0 7L2.6 0L5.2 7"},
    {'W', 7.6, "M0 7L1.9 0L3.8 6.5L5.7 0L7.6 7"},
    {'X', 5, "M.1 0L4.9 7M.1 7L4.9 0"},
    {'Y', 5, "M0 7L2.5 3.5L5 7M2.5 3.5L2.5 0"},
    {'Z', 4.7, "M.1 7L4.6 7L.1 0L4.6 0"},
    {'[', 1.5, "M1.5 7.4L.2 7.4L.2 -1L1.5 -1"},
    {'\\', 3, "M0 7.3L3 -1"},
    {']', 1.5, "M0 7.4L1.3 7.4L1.3 -1L0 -1"},
    {'^', 3.6, "M.2 4.5L1.8 7L3.4 4.5"},
    {'_', 4, "M0 -1L4 -1"},
    {'`', 1.2, "M.1 7.2L1 6"},
    {'a', 4, "A1.9 2.5 1.9 2.5 0 360M3.8 5L3.8 0"},
    {'b', 4, "M.2 7.3L.2 0A2.1 2.5 1.9 2.5 0 360"},
    {'c', 3.7, "A2.1 2.5 2 2.5 48 312"},
    {'d', 4, "M3.8 7.3L3.8 0A1.9 2.5 1.9 2.5 0 360"},
    {'e', 4.1, "M.1 2.6L4 2.6A2.05 2.5 1.95 2.5 3 315"},
    {'f', 2.3, "A2.2 5.8 1.2 1.5 75 180L1 0M0 5L2.2 5"},
    {'g', 4, "A1.9 2.5 1.9 2.5 0 360M3.8 5L3.8 -.2A1.95 -.2 1.85 1.8 0 -145"},
    {'h', 4, "M.2 7.3L.2 0A2 3 1.8 2 180 0L3.8 0"},
    {'i', .6, "M.3 5L.3 0M.3 6.9L.3 6.8"},
    {'j', 1.1, "M.8 5L.8 -.7A-.3 -.7 1.1 1.3 0 -80M.8 6.9L.8 6.8"},
    {'k', 3.7, "M.2 7.3L.2 0M3.4 5L.2 1.9M1.5 3.2L3.7 0"},
    {'l', .6, "M.3 7.3L.3 0"},
    {'m', 6.2, "M.2 5L.2 0A1.65 3.3 1.45 1.7 180 0L3.1 0A4.55 3.3 1.45 1.7 180 0L6 0"},
    {'n', 4, "M.2 5L.2 0A2 3 1.8 2 180 0L3.8 0"},
    {'o', 4.2, "A2.1 2.5 2 2.5 0 360"},
    {'p', 4, "M.2 5L.2 -2A2.1 2.5 1.9 2.5 0 360"},
    {'q', 4, "M3.8 5L3.8 -2A1.9 2.5 1.9 2.5 0 360"},
    {'r', 2.4, "M.2 5L.2 0A2.1 3 1.9 2 180 75"},
    {'s', 3.4, "A1.7 3.75 1.45 1.25 35 270A1.7 1.25 1.6 1.25 90 -150"},
    {'t', 2.4, "M1 6.6L1 1.4A2.2 1.4 1.2 1.4 180 285M0 5L2.3 5"},
    {'u', 4, "M.2 5L.2 2M3.8 5L3.8 0A2 2 1.8 2 180 360"},
    {'v', 3.8, "M0 5L1.9 0L3.8 5"},
    {'w', 5.8, "M0 5L1.5 0L2.9 4.6L4.3 0L5.8 5"},
    {'x', 3.6, "M.1 0L3.5 5M.1 5L3.5 0"},
    {'y', 3.8, "M0 5L1.9 .2M3.8 5L1.5 -.9A.3 -.7 1.3 1.2 -15 -85"},
    {'z', 3.4, "M.1 5L3.3 5L.1 0L3.3 0"},
    {'{', 2, "A2 6 1 1.3 90 180L1 4.1L.2 3.1L1 2.1L1 .2A2 .2 1 1.3 180 270"},
    {'|', .6, "M.3 7.5L.3 -1.5"},
    {'}', 2, "A0 6 1 1.3 90 0L1 4.1L1.8 3.1L1 2.1L1 .2A0 .2 1 1.3 0 -90"},
    {'~', 4.4, "A1.2 2.4 1.1 .9 180 30L2.3 2.8A3.2 3.3 1.1 .9 210 360"},
    {0xb0, 1.8, "A.9 6.2 .8 .8 0 360"},
    {0xb7, .6, "M.3 2.9L.3 2.8"},
    {0xd7, 4, "M.4 4.6L3.6 1.4M.4 1.4L3.6 4.6"},
};
static const glyph UNKNOWN = {0, 3.4, "M.3 0L.3 6L3.1 6L3.1 0L.3 0"};

static const glyph *find(uint32_t code)
{
    for (size_t i = 0; i < sizeof GLYPHS / sizeof GLYPHS[0]; i++)
        if (GLYPHS[i].code == code) return &GLYPHS[i];
    return &UNKNOWN;
}

/* The next character of valid or broken UTF-8; a byte that fits nowhere stands for itself. Only two-byte sequences
 * matter, longer ones have no glyph. */
static uint32_t next_character(const char **text)
{
    const uint8_t *p = (const uint8_t *)*text;
    int follow = 0;
    uint32_t code = p[0];
    if (p[0] >= 0xc2 && p[0] < 0xe0) code = p[0] & 0x1fu, follow = 1;
    if (p[0] >= 0xe0 && p[0] < 0xf0) code = p[0] & 0x0fu, follow = 2;
    if (p[0] >= 0xf0 && p[0] < 0xf5) code = p[0] & 0x07u, follow = 3;
    int n = 1;
    while (n <= follow && (p[n] & 0xc0) == 0x80) code = code << 6 | (p[n++] & 0x3fu);
    *text += n;
    return code;
}

/* A number such as -.5 or 2.1, without strtod, whose decimal point is the locale's. */
static double number(const char **path)
{
    const char *p = *path;
    while (*p == ' ') p++;
    const double sign = *p == '-' ? -1 : 1;
    if (*p == '-') p++;
    double value = 0, place = 0;
    for (; (*p >= '0' && *p <= '9') || *p == '.'; p++) {
        if (*p == '.') {
            place = 1;
        } else {
            value = value * 10 + (*p - '0');
            place *= 10;
        }
    }
    *path = p;
    return sign * value / (place > 0 ? place : 1);
}

enum { ARC_STEPS = 32, STROKE_POINTS = 80 };

static void draw_glyph(const glyph *g, double x, double unit, swm_font_stroke stroke, void *user)
{
    const double degree = 3.14159265358979323846 / 180;
    double points[STROKE_POINTS][2];
    int count = 0;
    for (const char *p = g->path; *p != '\0';) {
        const char command = *p++;
        if (command != 'L') {
            if (count > 0) stroke(user, (const double(*)[2])points, count);
            count = 0;
        }
        const double px = number(&p), py = number(&p);
        if (command != 'A') {
            points[count][0] = x + px * unit;
            points[count++][1] = py * unit;
            continue;
        }
        const double rx = number(&p), ry = number(&p), from = number(&p) * degree, to = number(&p) * degree;
        for (int i = 0; i <= ARC_STEPS; i++) {
            const double angle = from + (to - from) * i / ARC_STEPS;
            points[count][0] = x + (px + rx * cos(angle)) * unit;
            points[count++][1] = (py + ry * sin(angle)) * unit;
        }
    }
    if (count > 0) stroke(user, (const double(*)[2])points, count);
}

double swm_font_draw(const char *text, double size, swm_font_stroke stroke, void *user)
{
    const double unit = size * 0.72 / 7, gap = 1.25;
    double x = 0;
    while (*text != '\0') {
        const glyph *g = find(next_character(&text));
        if (stroke != NULL) draw_glyph(g, x, unit, stroke, user);
        x += (g->width + gap) * unit;
    }
    return x > 0 ? x - gap * unit : 0;
}
