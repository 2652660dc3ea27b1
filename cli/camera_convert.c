/* sanawm camera convert: camera paths between the formats of other programs, resampled and moved on the way. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/resample.h"

typedef struct convert_values {
    const char *from, *to, *axes, *direction, *out_axes, *out_direction, *flip, *size, *intrinsics;
    double fov, in_fps, fps, scale;
    int64_t frames;
    bool poses_only, file_order, constant_speed, smooth, recentre, single, quiet;
} convert_values;

#define AT(member) .offset = offsetof(convert_values, member)

static const cli_option options[] = {
    {CLI_HEADING, .help = "Reading"},
    {CLI_STRING, "from", AT(from), .value = "FORMAT",
     .help =
         "npy, npz, opencv, colmap-text, colmap-binary, nerfstudio, instant-ngp, blender, tum, kitti, realestate10k, "
         "json [told by content]"},
    {CLI_STRING, "axes", AT(axes), .value = "NAME|XYZ",
     .help =
         "Camera axes of the file: opencv, opengl, blender, pytorch3d, llff, ros, or where x, y and z point in letters "
         "of r l u d f b, for instance rdf [the format's]"},
    {CLI_WORD, "direction", AT(direction), .value = "c2w|w2c",
     .help = "The file's matrices are camera to world or world to camera [the format's]"},
    {CLI_STRING, "flip", AT(flip), .value = "LIST",
     .help = "x, y or z mirrors the path in that axis of the world; camera-x or world-x negates one axis only"},
    {CLI_STRING, "size", AT(size), .value = "WxH", .help = "Size of the pictures, where the file does not say"},
    {CLI_NUMBER, "fov", AT(fov), .minimum = 1, .maximum = 179, .value = "DEGREES",
     .help = "Horizontal field of view, where the file has no intrinsics; needs a size"},
    {CLI_STRING, "intrinsics", AT(intrinsics), .value = "FILE", .help = "Intrinsics from a .npy or .npz instead"},
    {CLI_FLAG, "poses-only", AT(poses_only), .help = "Leave intrinsics aside"},
    {CLI_FLAG, "file-order", AT(file_order), .help = "Keep the file's order instead of that of the pictures' names"},
    {CLI_NUMBER, "in-fps", AT(in_fps), .minimum = 1e-3, .maximum = 1e6, .value = "N",
     .help = "Frames a second, where the file has no times [16]"},

    {CLI_HEADING, .help = "On the way, in this order"},
    {CLI_FLAG, "recentre", "recenter", AT(recentre), .help = "The first pose becomes the identity"},
    {CLI_NUMBER, "scale", AT(scale), .minimum = 1e-9, .maximum = 1e9, .value = "S", .help = "Positions times S"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = SWM_RESAMPLE_MAX_FRAMES, .value = "N",
     .help = "Resample the whole path to N poses"},
    {CLI_NUMBER, "fps", AT(fps), .minimum = 1e-3, .maximum = 1e6, .value = "N",
     .help = "Resample to so many frames a second; with --frames the whole path in N frames of that rate"},
    {CLI_FLAG, "constant-speed", AT(constant_speed), .help = "Equal distances between frames"},
    {CLI_FLAG, "smooth", AT(smooth), .help = "Positions on a spline instead of straight lines between the poses"},

    {CLI_HEADING, .help = "Writing"},
    {CLI_STRING, "to", AT(to), .value = "FORMAT", .help = "As for --from [told by the ending of OUT]"},
    {CLI_STRING, "out-axes", AT(out_axes), .value = "NAME|XYZ", .help = "Camera axes of OUT [the format's]"},
    {CLI_WORD, "out-direction", AT(out_direction), .value = "c2w|w2c", .help = "[the format's]"},
    {CLI_FLAG, "single", AT(single), .help = "Single precision in .npy and .npz"},
    {CLI_FLAG, "quiet", AT(quiet), .help = "Do not say what was assumed"},
};

static void tell(void *user, const char *text)
{
    (void)user;
    cli_message("%s", text);
}

static swm_direction direction_of(const char *word)
{
    if (word == NULL) return SWM_DIRECTION_OWN;
    return strcmp(word, "c2w") == 0 ? SWM_CAMERA_TO_WORLD : SWM_WORLD_TO_CAMERA;
}

static int parse_size(const cli_command *command, const char *text, swm_path_reading *reading)
{
    int end = -1;
    if (text[strspn(text, "0123456789x")] != '\0' || strlen(text) > 13 ||
        sscanf(text, "%6dx%6d%n", &reading->width, &reading->height, &end) != 2 || text[end] != '\0' ||
        reading->width < 1 || reading->height < 1)
        return cli_usage(command, "--size is \"%.64s\"; expected WIDTHxHEIGHT in pixels, for instance 1280x704", text);
    return CLI_OK;
}

static int settle_formats(const cli_command *command, const convert_values *v, swm_path_reading *reading,
                          swm_path_writing *writing)
{
    swm_error error = {0};
    /* Either kind of COLMAP model is told by its files. */
    const bool any_colmap = v->from != NULL && strcmp(v->from, "colmap") == 0;
    if (v->from != NULL && !any_colmap && swm_path_format_from_name(v->from, &reading->format, &error) != 0)
        return cli_usage(command, "--from: %s", error.text);
    if (v->to != NULL && swm_path_format_from_name(v->to, &writing->format, &error) != 0)
        return cli_usage(command, "--to: %s", error.text);
    return v->size != NULL ? parse_size(command, v->size, reading) : CLI_OK;
}

/* Everything that happens between reading and writing. */
static int rework(swm_camera_path *path, const convert_values *v, swm_error *error)
{
    if (v->recentre) swm_camera_path_recentre(path);
    if (v->scale > 0) swm_camera_path_scale(path, v->scale);
    if (v->frames == 0 && v->fps == 0 && !v->constant_speed) return 0;
    const swm_resampling resampling = {v->frames, v->fps, v->constant_speed, v->smooth};
    swm_camera_path resampled;
    if (swm_camera_path_resample(&resampled, path, &resampling, error) != 0) return -1;
    swm_camera_path_free(path);
    *path = resampled;
    return 0;
}

static int run_convert(const cli_command *command, int argc, char **argv)
{
    convert_values v = {0};
    const char *places[2] = {NULL, NULL};
    int status;
    if (!cli_parse(command, argc, argv, &v, places, &status)) return status;
    swm_path_reading reading = {
        .axes = v.axes,
        .direction = direction_of(v.direction),
        .flip = v.flip,
        .fov = v.fov,
        .intrinsics = v.intrinsics,
        .poses_only = v.poses_only,
        .file_order = v.file_order,
        .fps = v.in_fps,
        .notice = v.quiet ? NULL : tell,
    };
    swm_path_writing writing = {
        .axes = v.out_axes,
        .direction = direction_of(v.out_direction),
        .single = v.single,
        .notice = v.quiet ? NULL : tell,
    };
    status = settle_formats(command, &v, &reading, &writing);
    if (status != CLI_OK) return status;
    if (v.smooth && v.frames == 0 && v.fps == 0 && !v.constant_speed)
        return cli_usage(command, "--smooth belongs to --frames, --fps or --constant-speed");
    if (v.poses_only && (v.intrinsics != NULL || v.fov > 0))
        return cli_usage(command, "--poses-only leaves intrinsics out, and --intrinsics or --fov gives them; pass one");
    swm_error error = {0};
    swm_camera_path path;
    if (swm_camera_path_load(&path, places[0], &reading, &error) != 0) return cli_failure(&error);
    int result = rework(&path, &v, &error);
    if (result == 0) result = swm_camera_path_save(&path, places[1], &writing, &error);
    swm_camera_path_free(&path);
    if (result != 0) return cli_failure(&error);
    puts(places[1]);
    return CLI_OK;
}

const cli_command cli_camera_convert = {
    .name = "camera convert",
    .summary = "A camera path from one format to another",
    .operands = "IN OUT",
    .operands_least = 2,
    .operands_most = 2,
    .description =
        "Read a camera path of SANA-WM (.npy, .npz), OpenCV pairs (poses.npy and intrinsics.npy), COLMAP (text "
        "or binary), nerfstudio, instant-ngp, Blender/NeRF, TUM, KITTI, RealEstate10K/CameraCtrl or our own "
        "JSON, and write it as another. IN is a file or a directory and its format is told by content; OUT's by "
        "its ending. Says on standard error which convention was assumed, and refuses what could mean two "
        "things with the option that settles it. The world is never turned or scaled unasked.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_convert,
};
