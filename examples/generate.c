/* The smallest program that uses libsanawm: a picture and an action string to a video.
 *
 *     cc generate.c $(pkg-config --cflags --libs sanawm) -o generate
 *     ./generate models/toyworld models/toyworld/demo/scene0.png "w-16,dw-16" out.mp4 */
#include <sanawm.h>
#include <stdio.h>

static void show_progress(void *user, const swm_progress *progress)
{
    (void)user;
    if (progress->steps > 0) fprintf(stderr, "%s %d/%d\n", progress->stage, progress->step, progress->steps);
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: %s MODEL PICTURE ACTION OUTPUT\n", arguments[0]);
        return 2;
    }
    swm_message message;
    swm_model *model = swm_model_open(arguments[1], NULL, &message);
    if (model == NULL) {
        fprintf(stderr, "%s\n", message.text);
        return 1;
    }
    swm_request request = swm_request_defaults(model);
    request.image = arguments[2];
    request.action = arguments[3];
    request.translation_speed = 0.06; /* units a frame */
    request.rotation_speed_degrees = 1.2;
    request.fov = 64;
    request.steps = 8;
    swm_output_options output = {.path = arguments[4]};
    swm_events events = {.progress = show_progress};
    int result = swm_generate_file(model, &request, &output, &events, &message);
    if (result != 0) fprintf(stderr, "%s\n", message.text);
    swm_model_close(model);
    return result == 0 ? 0 : 1;
}
