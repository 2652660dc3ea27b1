/* The conventions of camera poses: which way, which axes, which signs; from a file's matrices to memory and back, with
 * the checks that keep a wrong convention from passing as a path. See format_internal.h. */
#include "camera/format_internal.h"

#include <math.h>
#include <string.h>

static const char *axes_letters(const char *name)
{
    static const char *const names[][2] = {{"opencv", "rdf"},  {"colmap", "rdf"}, {"opengl", "rub"},
                                           {"blender", "rub"}, {"nerf", "rub"},   {"pytorch3d", "luf"},
                                           {"llff", "drb"},    {"ros", "flu"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i][0]) == 0) return names[i][1];
    return name;
}

static int parse_axes(axes *out, const char *name, swm_error *error)
{
    static const char directions[] = "rldufb"; /* pairs: OpenCV's +x -x +y -y +z -z */
    const char *letters = axes_letters(name);
    *out = (axes){0};
    bool valid = strlen(letters) == 3;
    double determinant = 0;
    for (int i = 0; i < 3 && valid; i++) {
        const char *at = strchr(directions, letters[i]);
        valid = at != NULL;
        if (!valid) break;
        const long k = at - directions;
        out->from_opencv[i][k / 2] = k % 2 == 0 ? 1 : -1;
        out->letters[i] = letters[i];
    }
    const double(*m)[3] = (const double(*)[3])out->from_opencv;
    if (valid)
        determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
                      m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
                      m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    if (determinant > 0) return 0;
    if (determinant < 0)
        return swm_fail(error,
                        "camera axes \"%.64s\" are left-handed; read the file as its right-handed neighbour and "
                        "mirror it with --flip",
                        name);
    return swm_fail(error,
                    "no camera axes are called \"%.64s\"; expected opencv, opengl, blender, pytorch3d, llff, ros or "
                    "three letters of r l u d f b that say where x, y and z point, for instance rdf",
                    name);
}

static int parse_flips(flips *out, const char *list, swm_error *error)
{
    *out = (flips){{1, 1, 1}, {1, 1, 1}};
    for (const char *at = list; at != NULL && *at != '\0';) {
        const size_t size = strcspn(at, ",");
        const bool camera = size == 8 && strncmp(at, "camera-", 7) == 0;
        const bool world = size == 7 && strncmp(at, "world-", 6) == 0;
        const char axis = size > 0 ? at[size - 1] : '\0';
        if ((size != 1 && !camera && !world) || axis < 'x' || axis > 'z')
            return swm_fail(error,
                            "cannot flip \"%.*s\"; expected a list of x, y, z, camera-x .. camera-z and world-x .. "
                            "world-z",
                            (int)swm_min((int64_t)size, 64), at);
        if (!world) out->camera[axis - 'x'] *= -1;
        if (!camera) out->world[axis - 'x'] *= -1;
        at += size + (at[size] == ',');
    }
    return 0;
}

int swm_convention_settle(convention *c, const char *axes_name, bool w2c, const char *flip, swm_error *error)
{
    c->w2c = w2c;
    if (parse_axes(&c->axes, axes_name, error) < 0) return -1;
    return parse_flips(&c->flips, flip, error);
}

void swm_convention_describe(char text[160], const convention *c)
{
    static const char letters[] = "rludfb";
    static const char *const words[] = {"right", "left", "up", "down", "forward", "back"};
    const char *w[3];
    for (int i = 0; i < 3; i++) w[i] = words[strchr(letters, c->axes.letters[i]) - letters];
    snprintf(text, 160, "%s, camera axes x %s, y %s, z %s", c->w2c ? "world to camera" : "camera to world", w[0], w[1],
             w[2]);
}

/* out = pose with its camera axes replaced: R_out = R m or R m^T. */
static void turn_camera(double pose[16], const axes *a, bool transposed)
{
    for (int i = 0; i < 3; i++) {
        double row[3] = {0};
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++)
                row[j] += pose[4 * i + k] * (transposed ? a->from_opencv[j][k] : a->from_opencv[k][j]);
        memcpy(pose + 4 * i, row, sizeof row);
    }
}

/* Towards the nearest rotation, R <- (3 R - R R^T R) / 2, which squares a small deviation each time. Numbers printed
 * with few digits would otherwise move the camera when the matrix is inverted. */
static void orthonormalise(double p[16])
{
    for (int pass = 0; pass < 3; pass++) {
        double r[9];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                double sum = 0;
                for (int k = 0; k < 3; k++)
                    for (int l = 0; l < 3; l++) sum += p[4 * i + k] * p[4 * l + k] * p[4 * l + j];
                r[3 * i + j] = 1.5 * p[4 * i + j] - 0.5 * sum;
            }
        for (int i = 0; i < 3; i++) memcpy(p + 4 * i, r + 3 * i, 3 * sizeof *r);
    }
}

static int check_rigid(double p[16], int64_t frame, swm_error *error)
{
    const long long n = (long long)frame;
    if (swm_se3_check_form(p, frame, error) != 0) return -1;
    for (int i = 0; i < 3; i++)
        if (fabs(p[4 * i + 3]) > 1e6)
            return swm_fail(error, "pose of frame %lld is %g units from the origin; at most 1e6", n,
                            fabs(p[4 * i + 3]));
    const double deviation = swm_se3_deviation(p);
    if (deviation > 1e-3)
        return swm_fail(error,
                        "pose of frame %lld has no orthonormal rotation: R R^T is off the identity by %.3g (at most "
                        "0.001); remove scale or shear from the matrices",
                        n, deviation);
    if (deviation > 1e-6) orthonormalise(p);
    memcpy(p + 12, (const double[4]){0, 0, 0, 1}, 4 * sizeof *p);
    return 0;
}

/* One matrix of a file to memory. */
int swm_convention_take(double p[16], int64_t frame, const convention *c, swm_error *error)
{
    if (check_rigid(p, frame, error) < 0) return -1;
    if (c->w2c) swm_se3_inverse(p, p);
    turn_camera(p, &c->axes, false);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) p[4 * i + j] *= c->flips.world[i] * c->flips.camera[j];
        p[4 * i + 3] *= c->flips.world[i];
    }
    if (swm_se3_determinant(p) < 0)
        return swm_fail(error,
                        "pose of frame %lld is left-handed (determinant %.3f); flip one axis with --flip camera-x, "
                        "camera-y or camera-z: a right-handed world is needed",
                        (long long)frame, swm_se3_determinant(p));
    for (int i = 0; i < 3; i++)
        if (fabs(p[4 * i + 3]) > 1e6)
            return swm_fail(error, "pose of frame %lld is %g units from the origin; at most 1e6", (long long)frame,
                            fabs(p[4 * i + 3]));
    return 0;
}

void swm_convention_give(double p[16], const convention *c)
{
    turn_camera(p, &c->axes, true);
    if (c->w2c) swm_se3_inverse(p, p);
}
