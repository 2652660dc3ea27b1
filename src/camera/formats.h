/* Camera paths in the formats of other programs, both ways: which convention each has, what it can carry, and the one
 * path type in between. Owns the conventions and the guessing; the arithmetic of the model is camera.h's, resampling
 * is resample.h's.
 *
 * In memory there is one convention: camera to world, OpenCV axes (x right, y down, z forward), double precision. The
 * world is the file's own: it is never turned or scaled behind the caller's back. */
#ifndef SWM_FORMATS_H
#define SWM_FORMATS_H

#include "camera/camera.h"

enum { SWM_PATH_MAX_COUNT = 10000000 };

typedef struct swm_camera_path {
    int64_t count;
    double *c2w;        /* (count,4,4) */
    double *times;      /* (count) seconds; NULL: the file has none */
    double *intrinsics; /* (count,4) fx fy cx cy; NULL: the file has none */
    bool fractions;     /* intrinsics are fractions of the width and height of a picture of unknown size, not pixels */
    int width, height;  /* of the pictures, in pixels; 0: not known */
    double fps;         /* frames a second; 0: not known */
    char **names;       /* (count) of the pictures, as the file spells them; NULL: none */
} swm_camera_path;

/* Zeroed memory for `count` poses; overwrites the struct. */
int swm_camera_path_create(swm_camera_path *path, int64_t count, bool times, bool intrinsics, bool names,
                           swm_error *error);
void swm_camera_path_free(swm_camera_path *path); /* safe on {0} and twice */

typedef enum swm_path_format {
    SWM_PATH_GUESS,
    SWM_PATH_NPY,           /* (F,4,4), as SANA-WM takes it */
    SWM_PATH_NPZ,           /* c2w, intrinsics, fps, num_frames, as SANA-WM's benchmark has it */
    SWM_PATH_PAIR,          /* a directory with poses.npy and intrinsics.npy */
    SWM_PATH_COLMAP_TEXT,   /* a directory with cameras.txt and images.txt */
    SWM_PATH_COLMAP_BINARY, /* a directory with cameras.bin and images.bin */
    SWM_PATH_NERFSTUDIO,    /* transforms.json */
    SWM_PATH_INSTANT_NGP,   /* transforms.json with aabb_scale */
    SWM_PATH_BLENDER,       /* the original NeRF's JSON with camera_angle_x */
    SWM_PATH_TUM,           /* time tx ty tz qx qy qz qw */
    SWM_PATH_KITTI,         /* 3x4 matrices, a line each */
    SWM_PATH_REALESTATE,    /* RealEstate10K and CameraCtrl: time, intrinsics, 0 0, 3x4 */
    SWM_PATH_JSON,          /* ours: also what lies beside every generated video */
    SWM_PATH_FORMAT_COUNT
} swm_path_format;

/* "tum"; also takes "colmap" (binary), "transforms" (nerfstudio), "re10k" and "cameractrl". */
int swm_path_format_from_name(const char *name, swm_path_format *format, swm_error *error);
const char *swm_path_format_name(swm_path_format format);
/* "TUM trajectory", for sentences */
const char *swm_path_format_title(swm_path_format format);

typedef enum swm_direction { SWM_DIRECTION_OWN, SWM_CAMERA_TO_WORLD, SWM_WORLD_TO_CAMERA } swm_direction;

/* What cannot be read from the file, or is to be read otherwise. {0} takes every format at its word. */
typedef struct swm_path_reading {
    swm_path_format format;
    /* Camera axes: "opencv", "opengl", "blender", "nerf", "pytorch3d", "llff", "ros", or three letters of where x, y
     * and z point: r(ight) l(eft) u(p) d(own) f(orward) b(ack), "rdf" for OpenCV. NULL: the format's own. */
    const char *axes;
    swm_direction direction;
    /* Comma-separated signs to turn around: "x", "y", "z" mirror the whole path in that world axis; "camera-x" negates
     * an axis of every camera, "world-x" one of the world. NULL: none. */
    const char *flip;
    int width, height;      /* of the pictures, where the file does not say; 0: not known */
    double fov;             /* horizontal, degrees, where the file has no intrinsics; needs a size. 0: not given */
    const char *intrinsics; /* .npy or .npz of intrinsics instead of the file's; only swm_camera_path_load */
    bool poses_only;        /* leave intrinsics aside, even those that could not be represented */
    bool file_order;        /* named pictures in the order of the file instead of by name */
    double fps;             /* where the file has no times; 0: not known */
    void (*notice)(void *user, const char *text); /* what was assumed; NULL: not told */
    void *user;
} swm_path_reading;

/* One file of a path in memory: `data` is borrowed, `name` tells messages and roles ("cameras.txt", "poses.npy"). */
typedef struct swm_path_source {
    const char *name;
    const void *data;
    size_t size;
} swm_path_source;

/* Read a file or a directory. The format is told by content; what remains ambiguous is refused with the option that
 * settles it. The path passes the checks of swm_poses_check; focal lengths are positive. On failure *path is {0} and
 * the line names the file. `reading` may be NULL. */
int swm_camera_path_load(swm_camera_path *path, const char *place, const swm_path_reading *reading, swm_error *error);
/* The same from 1 or 2 files in memory. */
int swm_camera_path_parse(swm_camera_path *path, const swm_path_source *sources, int count,
                          const swm_path_reading *reading, swm_error *error);

typedef struct swm_path_writing {
    swm_path_format format; /* SWM_PATH_GUESS: by the ending of the name, where that is unambiguous */
    const char *axes;       /* NULL: the format's own */
    swm_direction direction;
    bool single; /* F32 arrays instead of F64, in .npy and .npz */
    void (*notice)(void *user, const char *text);
    void *user;
} swm_path_writing;

/* Write a file, or a directory which is made, for COLMAP models and pairs. What the format cannot carry is left behind
 * with a notice; what it needs and the path has not is refused. */
int swm_camera_path_save(const swm_camera_path *path, const char *place, const swm_path_writing *writing,
                         swm_error *error);

/* In place: translations times `scale`; all poses as seen from the first, which becomes the identity. */
void swm_camera_path_scale(swm_camera_path *path, double scale);
void swm_camera_path_recentre(swm_camera_path *path);

#endif
