// test_gguf_config.c - unit tests of what formats/gguf_config.c knows of each architecture without
// keys, at sizes that no test file has.
#include <math.h>

#include "base/buffer.h"
#include "formats/gguf_config.h"
#include "unit.h"

static void put(Buffer *b, uint64_t value, size_t bytes) { buffer_add(b, &value, bytes); }

static void put_text(Buffer *b, const char *text)
{
    put(b, strlen(text), 8);
    buffer_add_text(b, text);
}

static void put_key(Buffer *b, const char *architecture, const char *name, GgufValueType type)
{
    put(b, strlen(architecture) + 1 + strlen(name), 8);
    buffer_add_text(b, architecture);
    buffer_add_text(b, ".");
    buffer_add_text(b, name);
    put(b, type, 4);
}

static void put_count(Buffer *b, const char *architecture, const char *name, size_t value)
{
    put_key(b, architecture, name, GGUF_U32);
    put(b, value, 4);
}

// A file of an architecture with so many layers and the needed keys only. Its one tensor is an
// embedding of one row.
static Buffer keys_file(const char *architecture, size_t n_layers, size_t dim, size_t n_heads)
{
    Buffer b = {0};
    const float eps = 1e-6f;
    buffer_add_text(&b, "GGUF");
    put(&b, 3, 4), put(&b, 1, 8), put(&b, 7, 8);
    put_text(&b, "general.architecture"), put(&b, GGUF_TEXT, 4), put_text(&b, architecture);
    put_count(&b, architecture, "block_count", n_layers);
    put_count(&b, architecture, "embedding_length", dim);
    put_count(&b, architecture, "feed_forward_length", 2 * dim);
    put_count(&b, architecture, "context_length", 8192);
    put_count(&b, architecture, "attention.head_count", n_heads);
    put_key(&b, architecture, "attention.layer_norm_rms_epsilon", GGUF_F32);
    buffer_add(&b, &eps, 4);
    put_text(&b, "token_embd.weight"), put(&b, 1, 4), put(&b, dim, 8), put(&b, 0, 4), put(&b, 0, 8);
    while (b.size % 32) {
        put(&b, 0, 1);
    }
    for (size_t i = 0; i < dim; i++) {
        put(&b, 0, 4);
    }
    return b;
}

// Reads the config of such a file.
static const Config *read_config(const char *architecture, size_t n_layers, size_t dim,
                                 size_t n_heads)
{
    static Config config;
    const GgufArchitecture *found;
    Buffer b = keys_file(architecture, n_layers, dim, n_heads);
    Error err = {0};
    Gguf g;
    config = (Config){0};
    const bool ok = gguf_open(&g, "file", (Mapping){(uint8_t *)b.data, b.size, NULL}, &err) &&
                    gguf_read_config(&g, &config, &found, &err);
    CHECK(ok && strcmp(found->name, architecture) == 0, "%s: %s", architecture, err.message);
    gguf_close(&g);
    buffer_free(&b);
    return &config;
}

TEST(test_gemma_scales_scores_of_its_largest_models_by_the_width)
{
    CHECK(read_config("gemma2", 46, 4608, 32)->attention_scale == 1 / 12.0, "dim / n_heads is 144");
    CHECK(read_config("gemma3", 62, 2560, 16)->attention_scale == 1 / sqrt(160),
          "dim / n_heads is 160");
    CHECK(read_config("gemma2", 42, 4608, 32)->attention_scale == 0, "that of other models");
    CHECK(read_config("gemma3", 46, 2560, 16)->attention_scale == 0, "that of other models");
}

TEST(test_gemma_2_has_caps_and_a_window_without_keys)
{
    const Config *p = read_config("gemma2", 4, 64, 2);
    CHECK(p->attention_cap == 50 && p->logit_cap == 30, "caps %g, %g", p->attention_cap,
          p->logit_cap);
    CHECK(p->sliding_window == 4096 && p->layer_flags[0] == 0 && p->layer_flags[1] == LAYER_FULL &&
              p->layer_flags[2] == 0,
          "every other layer has the window");
    CHECK(p->window_rope_theta == 0, "one base for all layers");
}

TEST(test_embeddings_of_gemma_are_scaled_by_a_root_of_8_bits)
{
    CHECK(read_config("gemma2", 26, 2304, 8)->embedding_scale == 48, "an exact root");
    CHECK(read_config("gemma3", 34, 2560, 10)->embedding_scale == 50.5, "50.596");
    CHECK(read_config("gemma3", 26, 1152, 4)->embedding_scale == 34, "33.94");
    CHECK(read_config("gemma3", 62, 5376, 42)->embedding_scale == 73.5, "73.32");
}

TEST(test_exaone_4_of_64_layers_has_a_window_and_no_rope_without_it)
{
    const Config *p = read_config("exaone4", 64, 64, 2);
    CHECK(p->sliding_window == 4096, "window %zu", p->sliding_window);
    CHECK(p->layer_flags[2] == 0 && p->layer_flags[3] == (LAYER_FULL | LAYER_NO_ROPE),
          "every fourth layer sees all");
    p = read_config("exaone4", 30, 64, 2);
    CHECK(p->sliding_window == 0 && p->layer_flags[3] == 0, "one of 30 layers is without window");
}

TEST(test_every_fourth_layer_of_smollm3_is_without_rope)
{
    const Config *p = read_config("smollm3", 36, 64, 4);
    for (size_t i = 0; i < 36; i++) {
        CHECK(p->layer_flags[i] == (i % 4 == 3 ? LAYER_NO_ROPE : 0), "layer %zu", i);
    }
}

TEST(test_minicpm_without_keys_has_the_factors_of_its_first_model)
{
    const Config *p = read_config("minicpm", 40, 2304, 36);
    CHECK(p->embedding_scale == 12 && fabs(p->residual_scale - 1.4 / sqrt(40)) < 1e-15 &&
              fabs(p->logit_scale - 256 / 2304.0) < 1e-15,
          "factors %g, %g, %g", p->embedding_scale, p->residual_scale, p->logit_scale);
    p = read_config("granite", 40, 2048, 32);
    CHECK(p->embedding_scale == 0 && p->residual_scale == 0 && p->logit_scale == 0, "Granite's");
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (const UnitTest[]){UNIT(test_gemma_scales_scores_of_its_largest_models_by_the_width),
                           UNIT(test_gemma_2_has_caps_and_a_window_without_keys),
                           UNIT(test_embeddings_of_gemma_are_scaled_by_a_root_of_8_bits),
                           UNIT(test_exaone_4_of_64_layers_has_a_window_and_no_rope_without_it),
                           UNIT(test_every_fourth_layer_of_smollm3_is_without_rope),
                           UNIT(test_minicpm_without_keys_has_the_factors_of_its_first_model),
                           {0}});
}
