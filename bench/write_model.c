/* Writes a model directory of random weights: what --start opens where no real model is at hand. */
#include "model.h"

#include "core/file.h"
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The published model's files that are no weights, as far as they are read. */
static const char release_vae[] =
    "{\"_class_name\": \"AutoencoderKLLTX2Video\", \"block_out_channels\": [256, 512, 1024, 2048],\n"
    " \"decoder_block_out_channels\": [256, 512, 1024], \"decoder_causal\": false,\n"
    " \"decoder_inject_noise\": [false, false, false, false], \"decoder_layers_per_block\": [5, 5, 5, 5],\n"
    " \"decoder_spatial_padding_mode\": \"reflect\", \"decoder_spatio_temporal_scaling\": [true, true, true],\n"
    " \"down_block_types\": [\"LTX2VideoDownBlock3D\", \"LTX2VideoDownBlock3D\", \"LTX2VideoDownBlock3D\",\n"
    "  \"LTX2VideoDownBlock3D\"],\n"
    " \"downsample_type\": [\"spatial\", \"temporal\", \"spatiotemporal\", \"spatiotemporal\"],\n"
    " \"encoder_causal\": true, \"encoder_spatial_padding_mode\": \"zeros\", \"in_channels\": 3,\n"
    " \"latent_channels\": 128, \"layers_per_block\": [4, 6, 6, 2, 2], \"out_channels\": 3, \"patch_size\": 4,\n"
    " \"patch_size_t\": 1, \"resnet_norm_eps\": 1e-06, \"scaling_factor\": 1.0,\n"
    " \"spatio_temporal_scaling\": [true, true, true, true], \"timestep_conditioning\": false,\n"
    " \"upsample_factor\": [2, 2, 2], \"upsample_residual\": [true, true, true],\n"
    " \"upsample_type\": [\"spatiotemporal\", \"spatiotemporal\", \"spatiotemporal\"]}\n";

static const char release_gemma[] =
    "{\"model_type\": \"gemma2\", \"hidden_size\": 2304, \"intermediate_size\": 9216, \"num_hidden_layers\": 26,\n"
    " \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 256, \"query_pre_attn_scalar\": 256,\n"
    " \"attn_logit_softcapping\": 50.0, \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0, \"sliding_window\": 4096,\n"
    " \"vocab_size\": 256000, \"hidden_activation\": \"gelu_pytorch_tanh\"}\n";

/* A SentencePiece model of 258 pieces: unknown, the beginning of a text, and a token a byte. */
static int write_tokenizer(const char *path, swm_error *error)
{
    swm_output output;
    if (swm_output_open(&output, path, error) != 0) return -1;
    int result = 0;
    for (int id = 0; id < 258 && result == 0; id++) {
        char text[8], piece[24];
        int length = id == 0   ? snprintf(text, sizeof text, "<unk>")
                     : id == 1 ? snprintf(text, sizeof text, "<bos>")
                               : snprintf(text, sizeof text, "<0x%02X>", (unsigned)(id - 2) & 0xffu);
        int type = id == 0 ? 2 : id == 1 ? 3 : 6; /* unknown, control, byte */
        int size = snprintf(piece, sizeof piece, "\n%c\n%c%s\x18%c", length + 4, length, text, type);
        result = swm_output_write(&output, piece, (size_t)size, error);
    }
    if (result == 0) return swm_output_commit(&output, error);
    swm_output_abandon(&output);
    return -1;
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* Every tensor of `like` under its name, all with the same bytes: whole numbers of elements of a common memory. */
static int write_weights(const char *path, const swm_weights *like, swm_dtype type, swm_error *error)
{
    size_t count = swm_weights_count(like), largest = 0;
    const char **names = swm_allocate(error, count, sizeof *names);
    swm_tensor *tensors = swm_allocate(error, count, sizeof *tensors);
    if (names == NULL || tensors == NULL) {
        free(names);
        free(tensors);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        const swm_tensor *t = swm_weights_at(like, i, &names[i]);
        tensors[i] = swm_tensor_make(type, NULL, t->rank, t->shape);
        if (swm_bytes(tensors[i]) > largest) largest = swm_bytes(tensors[i]);
    }
    enum { VECTOR = 1 << 16 };
    size_t element = swm_dtype_size(type);
    char *memory = swm_allocate(error, largest + VECTOR * element, 1);
    int result = memory != NULL ? 0 : -1;
    for (size_t at = 0; result == 0 && at < largest / element; at += 4096) {
        float values[4096];
        size_t length = largest / element - at < 4096 ? largest / element - at : 4096;
        for (size_t i = 0; i < length; i++)
            values[i] = 0.02f * ((float)((uint32_t)(at + i + 1) * 2654435761u >> 8) * 0x1p-23f - 1.0f);
        swm_from_f32(memory + at * element, type, values, length);
    }
    /* Vectors, statistics among them, must not be negative. */
    for (size_t i = 0; result == 0 && i < VECTOR; i++)
        swm_from_f32(memory + largest + i * element, type, &(float){0.25f}, 1);
    for (size_t i = 0; i < count; i++)
        tensors[i].data = tensors[i].rank == 1 && swm_count(tensors[i]) <= VECTOR ? memory + largest : memory;
    if (result == 0) result = swm_safetensors_save(path, count, names, tensors, NULL, error);
    free(memory);
    free(tensors);
    free(names);
    return result;
}

/* ---- the directory -------------------------------------------------------------------------------------------------- */

/* `name` below `directory`: the file of that name below `from`, or `text` where there is none. */
static int write_text(const char *directory, const char *name, const char *from, const char *text, swm_error *error)
{
    enum { LIMIT = 64 << 20 };
    size_t size = text != NULL ? strlen(text) : 0;
    char *path = swm_path_join(error, directory, name),
         *source = from != NULL ? swm_path_join(error, from, name) : NULL;
    char *data = source != NULL && swm_file_exists(source) ? swm_file_read(source, LIMIT, &size, error) : NULL;
    int result = path == NULL || swm_failed(error) ? -1 : 0;
    if (result == 0 && (data != NULL || text != NULL))
        result = swm_file_write(path, data != NULL ? data : text, size, error);
    free(data);
    free(source);
    free(path);
    return result;
}

typedef struct part {
    const char *folder, *file;
    const swm_weights *weights; /* NULL: the model has none */
    swm_dtype type;
    const char *from, *texts[3], *defaults[3];
} part;

static int write_part(const char *directory, const part *p, bool tokenizer, swm_error *error)
{
    char *folder = swm_path_join(error, directory, p->folder);
    char *file = folder != NULL ? swm_path_join(error, folder, p->file) : NULL;
    int result = file != NULL ? swm_make_directories(folder, error) : -1;
    for (int i = 0; i < 3 && result == 0 && p->texts[i] != NULL; i++)
        result = write_text(folder, p->texts[i], p->from, p->defaults[i], error);
    if (result == 0) result = write_weights(file, p->weights, p->type, error);
    if (result == 0 && tokenizer) {
        char *path = swm_path_join(error, folder, "tokenizer.model");
        result = path != NULL ? write_tokenizer(path, error) : -1;
        free(path);
    }
    free(file);
    free(folder);
    return result;
}

int bench_model_write(const bench_model *model, const char *directory, swm_dtype dit_type, swm_error *error)
{
    const swm_checkpoint *c = &model->checkpoint;
    bool release = model->release;
    const part parts[] = {
        {"dit", "dit.safetensors", c->dit_weights, dit_type, NULL, {NULL}, {NULL}},
        {"vae",
         "diffusion_pytorch_model.safetensors",
         c->vae_weights,
         SWM_BF16,
         c->layout.vae,
         {"config.json"},
         {release ? release_vae : NULL}},
        {"text_encoder",
         "model.safetensors",
         c->text_weights,
         SWM_BF16,
         c->layout.text_encoder,
         {"config.json", "tokenizer.model", "tokenizer.json"},
         {release ? release_gemma : NULL}},
    };
    if (swm_directory_exists(directory))
        return swm_fail(error, "%s: is there already; a model is written to a new directory", directory);
    if (swm_make_directories(directory, error) != 0 ||
        write_text(directory, "config.yaml", c->layout.directory, release ? swm_checkpoint_release_config : NULL,
                   error) != 0)
        return -1;
    for (int i = 0; i < 3; i++) {
        bool tokenizer = release && strcmp(parts[i].folder, "text_encoder") == 0;
        if (parts[i].weights != NULL && write_part(directory, &parts[i], tokenizer, error) != 0) return -1;
    }
    return 0;
}
