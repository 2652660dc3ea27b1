/* Every group of tests, once: X(name) for the function int test_<name>(void), which returns the number of failures.
 * From the ground up, so that the first failure is the nearest to its cause. */
#define SWM_TEST_GROUPS(X)                                                                                             \
    X(backend)                                                                                                         \
    X(residency)                                                                                                       \
    X(ops)                                                                                                             \
    X(ops_video)                                                                                                       \
    X(rng)                                                                                                             \
    X(safetensors)                                                                                                     \
    X(torch_pt)                                                                                                        \
    X(weights)                                                                                                         \
    X(lora)                                                                                                            \
    X(config)                                                                                                          \
    X(npy)                                                                                                             \
    X(image)                                                                                                           \
    X(video)                                                                                                           \
    X(camera)                                                                                                          \
    X(preset)                                                                                                          \
    X(plot)                                                                                                            \
    X(formats)                                                                                                         \
    X(resample)                                                                                                        \
    X(tokenizer)                                                                                                       \
    X(gemma)                                                                                                           \
    X(gemma3)                                                                                                          \
    X(connectors)                                                                                                      \
    X(refiner_prompt)                                                                                                  \
    X(vae_kernels)                                                                                                     \
    X(vae)                                                                                                             \
    X(dit)                                                                                                             \
    X(refiner)                                                                                                         \
    X(sampler)                                                                                                         \
    X(refine)                                                                                                          \
    X(eval)                                                                                                            \
    X(corpus)                                                                                                          \
    X(golden)                                                                                                          \
    X(library)                                                                                                         \
    X(bench)                                                                                                           \
    X(cli)                                                                                                             \
    X(cli_refiner)
