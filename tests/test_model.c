// test_model.c - the forward pass: what a row computes depends neither on the rows beside it nor on
// threads and chunks. And the cache: which pages sequences share, which are kept, which forgotten.
//
// The model is a tiny one of random weights. Most tests of the cache run it, since the proof that a
// page may be shared is that the logits have the same bits; the last ones only move pages.
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "model.h"
#include "small_model.h"
#include "unit.h"

enum { CONTEXT = 700 };

static char path[] = "/tmp/test_model.XXXXXX";
static Checkpoint checkpoint;
static Model model;

static void make_model(void)
{
    Error err;
    write_small_model(path, CONTEXT);
    must(checkpoint_open(&checkpoint, path, 2, &err), &err);
    must(model_create(&model, &checkpoint, &err), &err);
    unlink(path);
}

static void make_scratch(Scratch *scratch, const Cache *cache, ScratchSizes sizes)
{
    Error err;
    must(scratch_create(scratch, &model.config, cache, sizes, &err), &err);
}

static int token_of(size_t sequence, size_t position)
{
    return (int)((sequence * 31 + position * 7 + position * position) % VOCAB);
}

// Runs lengths[s] positions of each sequence s of n, all sequences together, in passes of at most
// `chunk` rows of each. out: (n, CONTEXT, VOCAB), the logits of every position.
static void run_sequences(float *out, const size_t *lengths, size_t n, size_t chunk, size_t threads,
                          bool f16)
{
    Cache cache;
    Scratch scratch;
    Error err;
    const size_t max_rows = n * chunk;
    Row *rows = calloc(max_rows, sizeof *rows);
    must(cache_create(&cache, &model.config, CONTEXT, n, f16, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){max_rows, max_rows, threads});
    for (size_t begin = 0;; begin += chunk) {
        size_t n_rows = 0;
        for (size_t s = 0; s < n; s++) {
            for (size_t p = begin; p < begin + chunk && p < lengths[s]; p++) {
                rows[n_rows++] = (Row){
                    .token = token_of(s, p), .sequence = s, .wants_logits = true};
            }
        }
        if (!n_rows) {
            break;
        }
        must(forward(&model, &cache, &scratch, rows, n_rows, &err), &err);
        for (size_t r = 0; r < n_rows; r++) {
            memcpy(out + (rows[r].sequence * CONTEXT + rows[r].position) * VOCAB, rows[r].logits,
                   VOCAB * sizeof *out);
        }
    }
    scratch_free(&scratch);
    cache_free(&cache);
    free(rows);
}

TEST(test_logits_do_not_depend_on_chunks_threads_or_other_sequences)
{
    static const size_t lengths[] = {650, 1, 17, 300, 33};
    static const struct {
        size_t chunk, threads;
    } cases[] = {{1, 1}, {1, 3}, {7, 1}, {32, 2}, {64, 8}, {650, 2}};
    const size_t size = 5 * (size_t)CONTEXT * VOCAB;
    float *want = calloc(size, sizeof *want), *got = calloc(size, sizeof *got);
    for (int f16 = 0; f16 <= 1; f16++) {
        run_sequences(want, lengths, 5, 650, 1, f16);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            run_sequences(got, lengths, 5, cases[i].chunk, cases[i].threads, f16);
            CHECK(memcmp(want, got, size * sizeof *want) == 0,
                  "chunks of %zu on %zu threads give other bits (f16: %d)", cases[i].chunk,
                  cases[i].threads, f16);
        }
        memset(got, 0, size * sizeof *got);
        run_sequences(got, lengths, 1, 50, 1, f16);  // the first sequence without the others
        CHECK(memcmp(want, got, lengths[0] * VOCAB * sizeof *want) == 0,
              "a sequence alone gives other bits (f16: %d)", f16);
    }
    free(want);
    free(got);
}

TEST(test_truncate_and_run_again_gives_the_same_logits)
{
    Cache cache;
    Scratch scratch;
    Error err;
    float first[VOCAB];
    must(cache_create(&cache, &model.config, CONTEXT, 1, false, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){64, 1, 1});
    for (size_t round = 0; round < 3; round++) {
        Row rows[40];
        for (size_t p = 0; p < 40; p++) {
            rows[p] = (Row){.token = token_of(3, p), .wants_logits = p == 39};
        }
        must(forward(&model, &cache, &scratch, rows + cache_length(&cache, 0),
                     40 - cache_length(&cache, 0), &err),
             &err);
        if (round == 0) {
            memcpy(first, rows[39].logits, sizeof first);
        }
        CHECK(memcmp(first, rows[39].logits, sizeof first) == 0, "round %zu differs", round);
        cache_truncate(&cache, 0, round ? 0 : 33);
        CHECK(cache_length(&cache, 0) == (round ? 0u : 33u), "length %zu", cache_length(&cache, 0));
    }
    scratch_free(&scratch);
    cache_free(&cache);
}

TEST(test_memory_grows_by_pages_and_pages_are_reused)
{
    Cache cache;
    Scratch scratch;
    Error err;
    Row rows[PAGE_POSITIONS + 1];
    must(cache_create(&cache, &model.config, CONTEXT, 2, true, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){PAGE_POSITIONS + 1, 1, 1});
    CHECK(cache.sequences[0].n_pages == 0, "%zu pages before use", cache.sequences[0].n_pages);
    for (size_t i = 0; i <= PAGE_POSITIONS; i++) {
        rows[i] = (Row){.token = 1};
    }
    must(forward(&model, &cache, &scratch, rows, PAGE_POSITIONS, &err), &err);
    CHECK(cache.sequences[0].n_pages == 1, "%zu pages, expected 1", cache.sequences[0].n_pages);
    must(forward(&model, &cache, &scratch, rows, 1, &err), &err);
    CHECK(cache.sequences[0].n_pages == 2, "%zu pages, expected 2", cache.sequences[0].n_pages);
    cache_truncate(&cache, 0, 0);
    CHECK(cache.n_free == 1 && cache.n_lru == 1, "%zu pages free and %zu unused, expected 1 and 1",
          cache.n_free, cache.n_lru);
    for (size_t i = 0; i <= PAGE_POSITIONS; i++) {
        rows[i] = (Row){.token = 2, .sequence = 1};
    }
    must(forward(&model, &cache, &scratch, rows, PAGE_POSITIONS + 1, &err), &err);
    CHECK(cache.n_pages == 3 && cache.n_free == 0 && cache.n_lru == 1,
          "%zu pages, %zu free, %zu unused, expected 3, 0, 1", cache.n_pages, cache.n_free,
          cache.n_lru);
    scratch_free(&scratch);
    cache_free(&cache);
}

TEST(test_a_full_context_and_a_wrong_token_are_errors_that_change_nothing)
{
    Cache cache;
    Scratch scratch;
    Error err = {0};
    must(cache_create(&cache, &model.config, 10, 1, false, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){16, 1, 1});
    Row rows[16];
    for (size_t i = 0; i < 16; i++) {
        rows[i] = (Row){.token = 2};
    }
    CHECK(!forward(&model, &cache, &scratch, rows, 11, &err), "11 rows fit a context of 10");
    CHECK(err.kind == ERROR_INPUT && strstr(err.message, "10"), "%s", err.message);
    CHECK(cache_length(&cache, 0) == 0, "length %zu after an error", cache_length(&cache, 0));
    rows[3].token = VOCAB;
    CHECK(!forward(&model, &cache, &scratch, rows, 5, &err), "token %d was taken", VOCAB);
    CHECK(strstr(err.message, "37"), "%s", err.message);
    CHECK(cache_length(&cache, 0) == 0, "length %zu after an error", cache_length(&cache, 0));
    rows[3].token = 2;
    rows[0].wants_logits = rows[1].wants_logits = true;
    CHECK(!forward(&model, &cache, &scratch, rows, 5, &err), "two logits in a scratch for one");
    CHECK(cache_length(&cache, 0) == 0, "length %zu after an error", cache_length(&cache, 0));
    rows[1].wants_logits = false;
    CHECK(forward(&model, &cache, &scratch, rows, 10, &err), "%s", err.message);
    scratch_free(&scratch);
    cache_free(&cache);
}

// Writes the small model with an embedding of BAD that is not a number. Its lm_head is a matrix of
// its own, with the embedding's values, so that the logits of other tokens are finite.
enum { BAD = 5 };
static void write_bad_model(char *file)
{
    enum { HEADER = 7 * sizeof(int), VOCAB_AT = 5 * sizeof(int) };
    const float nan = NAN;
    const int own_lm_head = -VOCAB;
    float embedding[VOCAB * DIM];
    write_small_model(file, CONTEXT);
    const int fd = open(file, O_RDWR);
    const off_t end = lseek(fd, 0, SEEK_END), bad = HEADER + BAD * DIM * (off_t)sizeof nan;
    if (pread(fd, embedding, sizeof embedding, HEADER) != sizeof embedding ||
        pwrite(fd, embedding, sizeof embedding, end) != sizeof embedding ||
        pwrite(fd, &own_lm_head, sizeof own_lm_head, VOCAB_AT) != sizeof own_lm_head ||
        pwrite(fd, &nan, sizeof nan, bad) != sizeof nan) {
        exit(1);
    }
    close(fd);
}

// A sequence of four tokens is extended by 20 rows with BAD among them, which fail, and then by
// ten others: their logits have the bits of a sequence to which nothing happened.
TEST(test_a_pass_that_fails_leaves_nothing_behind)
{
    char file[] = "/tmp/test_model.XXXXXX";
    Checkpoint bad_checkpoint;
    Model bad_model;
    Error err;
    float want[10 * VOCAB];
    write_bad_model(file);
    must(checkpoint_open(&bad_checkpoint, file, 2, &err), &err);
    must(model_create(&bad_model, &bad_checkpoint, &err), &err);
    unlink(file);
    for (int fails = 0; fails <= 1; fails++) {
        Cache cache;
        Scratch scratch;
        Row first[4], failing[20], last[10];
        must(cache_create(&cache, &bad_model.config, CONTEXT, 1, false, &err), &err);
        make_scratch(&scratch, &cache, (ScratchSizes){20, 20, 2});
        for (int i = 0; i < 20; i++) {
            first[i % 4] = (Row){.token = 1 + i % 4};
            failing[i] = (Row){.token = i == 9 ? BAD : 6 + i, .wants_logits = true};
            last[i % 10] = (Row){.token = 7 + i % 10, .wants_logits = true};
        }
        must(forward(&bad_model, &cache, &scratch, first, 4, &err), &err);
        if (fails) {
            CHECK(!forward(&bad_model, &cache, &scratch, failing, 20, &err), "the pass succeeded");
            CHECK(cache_length(&cache, 0) == 4, "length %zu", cache_length(&cache, 0));
        }
        must(forward(&bad_model, &cache, &scratch, last, 10, &err), &err);
        for (size_t i = 0; i < 10; i++) {
            CHECK(!fails || memcmp(want + i * VOCAB, last[i].logits, VOCAB * sizeof *want) == 0,
                  "row %zu differs", i);
            memcpy(want + i * VOCAB, last[i].logits, VOCAB * sizeof *want);
        }
        scratch_free(&scratch);
        cache_free(&cache);
    }
    model_free(&bad_model);
    checkpoint_close(&bad_checkpoint);
}

TEST(test_the_mask_of_each_layer_is_one_band)
{
    Cache cache;
    Error err;
    Config config = model.config;
    config.sliding_window = 5;
    config.layer_flags[1] = LAYER_FULL | LAYER_NO_ROPE;
    must(cache_create(&cache, &config, 20, 1, false, &err), &err);
    for (size_t p = 0; p < 20; p++) {
        const size_t begins[] = {p < 5 ? 0 : p - 4, 0};
        for (size_t layer = 0; layer < 2; layer++) {
            const Visible seen = cache_visible(&cache, layer, p);
            CHECK(seen.begin == begins[layer] && seen.end == p + 1,
                  "layer %zu, position %zu: %zu to %zu", layer, p, seen.begin, seen.end);
            for (size_t j = 0; j < 20; j++) {
                const bool visible = j >= begins[layer] && j <= p;
                CHECK(seen.mask[j] == (visible ? 0.0f : -INFINITY),
                      "layer %zu, position %zu sees %zu: %g", layer, p, j, seen.mask[j]);
            }
        }
    }
    CHECK(cache_rope(&cache, 0) && !cache_rope(&cache, 1), "RoPE is not in the first layer only");
    cache_free(&cache);
}

// Gives a sequence n tokens: those that the prefix cache has, and the others through a pass.
// logits (VOCAB): of the last one. Returns how many positions were found.
static size_t extend(Cache *cache, Scratch *scratch, size_t sequence, const int *tokens, size_t n,
                     float *logits)
{
    Error err = {0};
    Row rows[CONTEXT];
    const size_t shared = cache_reuse_prefix(cache, sequence, tokens, n - 1);
    for (size_t p = shared; p < n; p++) {
        rows[p - shared] = (Row){
            .token = tokens[p], .sequence = sequence, .wants_logits = p == n - 1};
    }
    must(forward(&model, cache, scratch, rows, n - shared, &err), &err);
    memcpy(logits, rows[n - shared - 1].logits, VOCAB * sizeof *logits);
    return shared;
}

// n tokens, of which the first `common` are the same for every `which`.
static void make_tokens(int *tokens, size_t n, size_t common, size_t which)
{
    for (size_t p = 0; p < n; p++) {
        tokens[p] = token_of(p < common ? 100 : which, p);
    }
}

TEST(test_a_common_beginning_is_shared_and_changes_no_bit)
{
    enum { N = 4 * PAGE_POSITIONS, COMMON = 2 * PAGE_POSITIONS + 5 };
    for (int f16 = 0; f16 <= 1; f16++) {
        Cache shared, alone;
        Scratch scratch;
        Error err;
        int tokens[N];
        float got[VOCAB], want[VOCAB];
        must(cache_create(&shared, &model.config, CONTEXT, 4, f16, &err), &err);
        make_scratch(&scratch, &shared, (ScratchSizes){N, 1, 2});
        for (size_t s = 0; s < 4; s++) {
            make_tokens(tokens, N, COMMON, s);
            const size_t n_shared = extend(&shared, &scratch, s, tokens, N, got);
            const size_t wanted = s ? (size_t)COMMON / PAGE_POSITIONS * PAGE_POSITIONS : 0;
            CHECK(n_shared == wanted, "%zu positions shared, expected %zu", n_shared, wanted);
            must(cache_create(&alone, &model.config, CONTEXT, 1, f16, &err), &err);
            extend(&alone, &scratch, 0, tokens, N, want);
            CHECK(memcmp(got, want, sizeof got) == 0, "sequence %zu: other bits (f16: %d)", s, f16);
            cache_free(&alone);
        }
        CHECK(shared.n_pages == 4 + 3 * 2, "%zu pages, expected 10", shared.n_pages);
        CHECK(shared.pages[shared.sequences[3].ids[0]].n_users == 4, "%zu users of the first page",
              shared.pages[shared.sequences[3].ids[0]].n_users);
        scratch_free(&scratch);
        cache_free(&shared);
    }
}

TEST(test_pages_that_were_computed_at_the_same_time_become_one)
{
    Cache cache;
    Scratch scratch;
    Error err;
    Row rows[2 * PAGE_POSITIONS];
    must(cache_create(&cache, &model.config, CONTEXT, 2, true, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){2 * PAGE_POSITIONS, 1, 1});
    for (size_t i = 0; i < 2 * PAGE_POSITIONS; i++) {
        rows[i] = (Row){.token = token_of(1, i % PAGE_POSITIONS), .sequence = i / PAGE_POSITIONS};
    }
    must(forward(&model, &cache, &scratch, rows, 2 * PAGE_POSITIONS, &err), &err);
    CHECK(cache.sequences[0].ids[0] == cache.sequences[1].ids[0], "pages %zu and %zu",
          cache.sequences[0].ids[0], cache.sequences[1].ids[0]);
    CHECK(cache.n_free == 1, "%zu pages free, expected 1", cache.n_free);
    scratch_free(&scratch);
    cache_free(&cache);
}

TEST(test_unused_pages_are_bounded_and_the_least_recently_used_goes_first)
{
    enum {
        N = 2 * PAGE_POSITIONS + 1,
        LIMIT = (CONTEXT + PAGE_POSITIONS - 1) / PAGE_POSITIONS,
        TEXTS = 30  // all different
    };
    Cache cache;
    Scratch scratch;
    Error err;
    int tokens[N];
    float logits[VOCAB];
    must(cache_create(&cache, &model.config, CONTEXT, 4, true, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){N, 1, 1});
    cache_limit(&cache, 1);
    CHECK(cache.max_pages == LIMIT, "a limit of %zu pages, expected %d: one whole sequence",
          cache.max_pages, LIMIT);
    for (size_t round = 0; round < TEXTS; round++) {
        make_tokens(tokens, N, 0, round);
        const size_t shared = extend(&cache, &scratch, round % 4, tokens, N, logits);
        CHECK(shared == 0, "round %zu: %zu positions shared of a text never seen", round, shared);
        cache_truncate(&cache, round % 4, 0);
    }
    CHECK(cache.n_owned == LIMIT && cache.n_lru + cache.n_free == LIMIT, "%zu pages, %zu unused",
          cache.n_owned, cache.n_lru);
    for (size_t round = TEXTS; round-- > 0;) {
        make_tokens(tokens, N, 0, round);
        const size_t shared = cache_reuse_prefix(&cache, 0, tokens, N - 1);
        cache_truncate(&cache, 0, 0);
        const size_t wanted = round >= TEXTS - (LIMIT - 1) / 2 ? 2 * PAGE_POSITIONS : 0;
        CHECK(shared == wanted ||
                  (round == TEXTS - (LIMIT - 1) / 2 - 1 && shared == PAGE_POSITIONS),
              "text %zu of %d: %zu positions found, expected %zu", round, TEXTS, shared, wanted);
    }
    scratch_free(&scratch);
    cache_free(&cache);
}

TEST(test_a_sequence_cut_within_a_shared_page_leaves_the_others_alone)
{
    enum { N = 2 * PAGE_POSITIONS + 3, CUT = PAGE_POSITIONS + 7 };
    Cache cache;
    Scratch scratch;
    Error err;
    int tokens[N], others[N];
    float want[VOCAB], got[VOCAB];
    must(cache_create(&cache, &model.config, CONTEXT, 2, false, &err), &err);
    make_scratch(&scratch, &cache, (ScratchSizes){N, 1, 1});
    make_tokens(tokens, N, 0, 5);
    make_tokens(others, N, 0, 5);
    for (size_t p = CUT; p < N; p++) {
        others[p] = token_of(6, p);
    }
    for (size_t alone = 0; alone <= 1; alone++) {  // with the page's other user, and without
        extend(&cache, &scratch, 0, tokens, N, want);
        extend(&cache, &scratch, 1, tokens, N, got);
        cache_truncate(&cache, 0, alone ? 0 : N - 1);
        cache_truncate(&cache, 1, CUT);
        extend(&cache, &scratch, 1, others, N, got);
        cache_truncate(&cache, 1, 0);
        CHECK(extend(&cache, &scratch, 1, others, N, want) == 2 * PAGE_POSITIONS,
              "the page that was written anew is not found");
        CHECK(memcmp(want, got, sizeof got) == 0, "written over a cut page: other bits");
        cache_truncate(&cache, 0, 0);
        cache_truncate(&cache, 1, 0);
        const size_t shared = extend(&cache, &scratch, 0, tokens, N, got);
        const size_t wanted = (alone ? 1 : 2) * PAGE_POSITIONS;
        CHECK(shared == wanted, "%zu positions found, expected %zu", shared, wanted);
        cache_truncate(&cache, 0, 0);
    }
    scratch_free(&scratch);
    cache_free(&cache);
}

// The source is as long as the copy, or goes on with other tokens in the same page or after it.
TEST(test_a_copy_of_a_page_that_is_not_full_continues_with_the_same_bits)
{
    enum { COMMON = PAGE_POSITIONS + 9, N = 2 * PAGE_POSITIONS + 3 };
    static const size_t source_lengths[] = {COMMON, COMMON + 1, N};
    for (size_t round = 0; round < 2 * 3; round++) {
        Cache cache;
        Scratch scratch;
        Error err;
        int source[N], tokens[N];
        float got[VOCAB], want[VOCAB];
        must(cache_create(&cache, &model.config, CONTEXT, 3, round % 2, &err), &err);
        make_scratch(&scratch, &cache, (ScratchSizes){N, 1, 1});
        make_tokens(source, N, COMMON, 3);
        make_tokens(tokens, N, COMMON, 4);
        extend(&cache, &scratch, 0, source, source_lengths[round / 2], got);
        const size_t shared = cache_reuse_prefix(&cache, 1, tokens, COMMON);
        CHECK(shared == PAGE_POSITIONS, "%zu positions shared", shared);
        CHECK(cache_copy_page(&cache, 1, 0, COMMON), "no page");
        CHECK(cache_length(&cache, 1) == COMMON, "length %zu", cache_length(&cache, 1));
        extend(&cache, &scratch, 1, tokens, N, got);
        cache_truncate(&cache, 1, 0);
        extend(&cache, &scratch, 2, tokens, N, want);
        CHECK(memcmp(got, want, sizeof got) == 0, "round %zu: other bits", round);
        cache_truncate(&cache, 0, COMMON);
        extend(&cache, &scratch, 0, source, N, got);
        cache_truncate(&cache, 0, 0);
        cache_truncate(&cache, 2, 0);
        extend(&cache, &scratch, 2, source, N, want);
        CHECK(memcmp(got, want, sizeof got) == 0, "round %zu: the source was changed", round);
        scratch_free(&scratch);
        cache_free(&cache);
    }
}

// The source is full, or has more tokens than the copy, as many, or fewer.
TEST(test_a_sequence_that_begins_with_a_copy_of_a_page_goes_on_with_the_same_bits)
{
    enum { COMMON = PAGE_POSITIONS + 9, N = 2 * PAGE_POSITIONS + 3 };
    static const size_t source_lengths[] = {N, COMMON + 1, COMMON, COMMON - 1};
    for (size_t round = 0; round < 2 * 4; round++) {
        Cache cache, alone;
        Scratch scratch;
        Error err;
        int source[N], tokens[N];
        float got[VOCAB], want[VOCAB];
        const size_t length = source_lengths[round / 2];
        const size_t common = length < COMMON ? length : COMMON;
        must(cache_create(&cache, &model.config, CONTEXT, 2, round % 2, &err), &err);
        must(cache_create(&alone, &model.config, CONTEXT, 1, round % 2, &err), &err);
        make_scratch(&scratch, &cache, (ScratchSizes){N, 1, 1});
        make_tokens(source, N, COMMON, 3);
        make_tokens(tokens, N, COMMON, 4);
        extend(&cache, &scratch, 0, source, length, got);
        cache_retire(&cache, 0);
        CHECK(cache_length(&cache, 0) == 0, "the sequence has %zu positions",
              cache_length(&cache, 0));
        cache_reuse_prefix(&cache, 1, tokens, N - 1);
        const size_t copied = cache_copy_prefix(&cache, 1, tokens, N - 1);
        CHECK(copied == common, "round %zu: %zu positions, expected %zu", round, copied, common);
        extend(&cache, &scratch, 1, tokens, N, got);
        extend(&alone, &scratch, 0, tokens, N, want);
        CHECK(memcmp(got, want, sizeof got) == 0, "round %zu: other bits", round);
        scratch_free(&scratch);
        cache_free(&cache);
        cache_free(&alone);
    }
}

TEST(test_adopted_pages_are_read_and_never_written)
{
    enum { PAGES = 2, N = PAGES * PAGE_POSITIONS + 3, CUT = PAGE_POSITIONS + 7 };
    Cache first, second;
    Scratch scratch;
    Error err;
    int tokens[N];
    float want[VOCAB], got[VOCAB];
    must(cache_create(&first, &model.config, CONTEXT, 1, true, &err), &err);
    make_scratch(&scratch, &first, (ScratchSizes){N, 1, 1});
    make_tokens(tokens, N, 0, 9);
    extend(&first, &scratch, 0, tokens, N, want);
    char *data = alloc_zeroed(PAGES, first.page_bytes),
         *copy = alloc_zeroed(PAGES, first.page_bytes);
    for (size_t i = 0; i < PAGES; i++) {
        memcpy(data + i * first.page_bytes, cache_page(&first, 0, i * PAGE_POSITIONS),
               first.page_bytes);
    }
    memcpy(copy, data, PAGES * first.page_bytes);
    must(cache_create(&second, &model.config, CONTEXT, 2, true, &err), &err);
    for (int twice = 0; twice <= 1; twice++) {
        must(cache_adopt(&second, tokens, data, PAGES, &err), &err);
    }
    CHECK(second.n_pages == PAGES && second.n_owned == 0, "%zu pages, %zu owned", second.n_pages,
          second.n_owned);
    const size_t shared = extend(&second, &scratch, 0, tokens, N, got);
    CHECK(shared == PAGES * PAGE_POSITIONS, "%zu positions shared", shared);
    CHECK(memcmp(got, want, sizeof got) == 0, "adopted pages give other bits");
    cache_truncate(&second, 0, CUT);
    extend(&second, &scratch, 0, tokens, N, got);
    CHECK(memcmp(got, want, sizeof got) == 0, "a cut adopted page gives other bits");
    cache_truncate(&second, 0, 0);
    CHECK(memcmp(copy, data, PAGES * first.page_bytes) == 0, "adopted pages were written to");
    CHECK(cache_reuse_prefix(&second, 1, tokens, N - 1) == PAGES * PAGE_POSITIONS,
          "not found any more");
    scratch_free(&scratch);
    cache_free(&second);
    cache_free(&first);
    free(data);
    free(copy);
}

// The same token n times, appended and published as forward would, without keys and values.
static void append_text(Cache *cache, size_t sequence, int token, size_t n)
{
    Error err = {0};
    for (size_t i = 0; i < n; i++) {
        size_t position;
        must(cache_append(cache, sequence, token, &position, &err), &err);
        cache_publish(cache, sequence, position);
    }
}

// How much of a text of n tokens the prefix cache has.
static size_t length_found(Cache *cache, size_t sequence, int token, size_t n)
{
    int tokens[CONTEXT];
    for (size_t i = 0; i < n; i++) {
        tokens[i] = token;
    }
    const size_t length = cache_reuse_prefix(cache, sequence, tokens, n);
    cache_truncate(cache, sequence, 0);
    return length;
}

TEST(test_an_unused_page_that_is_reused_is_the_last_to_be_forgotten)
{
    enum { CONTEXT_PAGES = 3, N = CONTEXT_PAGES * PAGE_POSITIONS };
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, N, 1, true, &err), &err);
    for (int token = 1; token <= CONTEXT_PAGES; token++) {  // texts of a page each: memory is full
        append_text(&cache, 0, token, PAGE_POSITIONS);
        cache_truncate(&cache, 0, 0);
    }
    CHECK(length_found(&cache, 0, 1, N) == PAGE_POSITIONS, "the first text is not found");
    append_text(&cache, 0, 4, 1);  // takes a page: that of text 2, now the least recently used
    cache_truncate(&cache, 0, 0);
    for (int token = 1; token <= CONTEXT_PAGES; token++) {
        const size_t found = length_found(&cache, 0, token, N);
        const size_t wanted = token == 2 ? 0 : PAGE_POSITIONS;
        CHECK(found == wanted, "%zu positions of text %d, expected %zu", found, token, wanted);
    }
    cache_free(&cache);
}

// How many positions of a text the prefix cache has, with those that a copied page adds. The text is
// n positions of one token, then n_other of another.
static size_t length_copied(Cache *cache, int token, size_t n, int other, size_t n_other)
{
    int tokens[CONTEXT];
    for (size_t i = 0; i < n + n_other; i++) {
        tokens[i] = i < n ? token : other;
    }
    cache_reuse_prefix(cache, 0, tokens, n + n_other);
    const size_t length = cache_copy_prefix(cache, 0, tokens, n + n_other);
    CHECK(length == cache_length(cache, 0), "%zu positions, but the sequence has %zu", length,
          cache_length(cache, 0));
    cache_truncate(cache, 0, 0);
    return length;
}

TEST(test_the_page_with_the_most_tokens_in_common_is_copied)
{
    enum { PAGE = PAGE_POSITIONS, N = 4 * PAGE };
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, N, 2, true, &err), &err);
    for (size_t n = 3; n <= 9; n += 3) {
        append_text(&cache, 0, 1, PAGE + n);
        append_text(&cache, 0, 2, 1);
        cache_retire(&cache, 0);
    }
    const size_t pages = cache.n_pages;
    append_text(&cache, 0, 1, PAGE + 9);
    append_text(&cache, 0, 2, 1);
    cache_retire(&cache, 0);
    CHECK(cache.n_pages - cache.n_free == pages, "a page was published again");
    static const struct {
        int token;
        size_t n;
        int other;
        size_t n_other, expected;
    } cases[] = {
        {1, PAGE + 5, 3, 9, PAGE + 5},      // the third has more of them
        {1, PAGE + 6, 2, 9, PAGE + 7},      // the second has all its tokens in common
        {1, PAGE + 9, 2, 1, PAGE + 10},     // no more than there are
        {1, PAGE + 20, 2, 1, PAGE + 9},     // where a page was not filled, it has no tokens
        {1, PAGE, 3, 9, PAGE},              // none in common
        {1, PAGE - 1, 3, 9, PAGE - 1},      // of a full page
        {3, PAGE, 1, 9, 0},                 // after another page
        {1, 2 * PAGE + 1, 1, 0, PAGE + 9},  // within the second page, not behind it
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t found = length_copied(&cache, cases[i].token, cases[i].n, cases[i].other,
                                           cases[i].n_other);
        CHECK(found == cases[i].expected, "case %zu: %zu positions, expected %zu", i, found,
              cases[i].expected);
    }
    cache_free(&cache);
}

TEST(test_pages_that_are_not_full_are_kept_for_the_last_sequences_only)
{
    enum { N = 8 * PAGE_POSITIONS, TEXTS = RETIRED_PAGES + 20 };
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, N, 64, true, &err), &err);
    for (int i = 0; i < TEXTS; i++) {
        append_text(&cache, 0, 100 + i, 3);
        cache_retire(&cache, 0);
    }
    CHECK(cache.n_lru == RETIRED_PAGES, "%zu pages are kept", cache.n_lru);
    CHECK(cache.n_pages <= RETIRED_PAGES + 2, "%zu pages", cache.n_pages);
    CHECK(length_copied(&cache, 100 + TEXTS - 1, 9, 1, 0) == 3, "the last text is not found");
    CHECK(length_copied(&cache, 100, 9, 1, 0) == 0, "the first text is found");
    cache_free(&cache);
}

TEST(test_a_page_is_not_copied_into_its_own_memory)
{
    enum { CONTEXT_PAGES = 3, N = CONTEXT_PAGES * PAGE_POSITIONS };
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, N, 2, true, &err), &err);
    cache_limit(&cache, CONTEXT_PAGES);
    append_text(&cache, 0, 1, 5);
    cache_retire(&cache, 0);
    append_text(&cache, 1, 2, (CONTEXT_PAGES - 1) * PAGE_POSITIONS);  // all others are in use
    CHECK(length_copied(&cache, 1, 9, 1, 0) == 0, "a page was found");
    cache_truncate(&cache, 1, PAGE_POSITIONS);
    CHECK(length_copied(&cache, 1, 9, 1, 0) == 5, "the page was not kept");
    cache_free(&cache);
}

TEST(test_pages_after_a_forgotten_one_are_not_found)
{
    enum { N = 3 * PAGE_POSITIONS };
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, N, 2, true, &err), &err);
    append_text(&cache, 0, 1, N);
    append_text(&cache, 1, 1, PAGE_POSITIONS);  // the first page is in use, the others will not be
    CHECK(cache.n_pages == 4 && cache.n_free == 1, "%zu pages, %zu free, expected 4 and 1",
          cache.n_pages, cache.n_free);
    cache_truncate(&cache, 0, N - 1);  // within the last page, which is written to again:
    append_text(&cache, 0, 2, 1);
    cache_truncate(&cache, 0, 0);
    CHECK(length_found(&cache, 0, 1, N) == N - PAGE_POSITIONS, "a page that is another now");
    cache_truncate(&cache, 1, PAGE_POSITIONS - 1);  // and so the first one
    append_text(&cache, 1, 2, 1);
    CHECK(length_found(&cache, 0, 1, N) == 0, "pages are found without their parent");
    cache_free(&cache);
}

TEST(test_an_append_without_a_page_left_is_an_error_that_changes_nothing)
{
    enum { N = 2 * PAGE_POSITIONS };
    Cache cache;
    Error err = {0};
    size_t position = 99;
    must(cache_create(&cache, &model.config, N, 2, true, &err), &err);
    cache_limit(&cache, 2);
    append_text(&cache, 0, 1, N);
    CHECK(!cache_append(&cache, 1, 1, &position, &err), "a third page of two");
    CHECK(err.kind == ERROR_RUN && strstr(err.message, "2 pages"), "%s", err.message);
    CHECK(cache_length(&cache, 1) == 0 && position == 99, "length %zu", cache_length(&cache, 1));
    cache_truncate(&cache, 0, PAGE_POSITIONS);
    CHECK(cache_append(&cache, 1, 1, &position, &err) && position == 0, "%s", err.message);
    cache_free(&cache);
}

TEST(test_a_page_tells_its_tokens)
{
    Cache cache;
    Error err;
    must(cache_create(&cache, &model.config, CONTEXT, 1, true, &err), &err);
    for (size_t p = 0; p < 2 * PAGE_POSITIONS; p++) {
        append_text(&cache, 0, token_of(8, p), 1);
    }
    for (size_t p = 0; p < 2 * PAGE_POSITIONS; p++) {
        const int token = cache_page_tokens(&cache, 0, p)[p % PAGE_POSITIONS];
        CHECK(token == token_of(8, p), "position %zu: %d, expected %d", p, token, token_of(8, p));
    }
    cache_free(&cache);
}

int main(int argc, char **argv)
{
    Error err;
    must(ops_select("auto", &err), &err);
    make_model();
    const int status = unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_logits_do_not_depend_on_chunks_threads_or_other_sequences),
            UNIT(test_truncate_and_run_again_gives_the_same_logits),
            UNIT(test_memory_grows_by_pages_and_pages_are_reused),
            UNIT(test_a_common_beginning_is_shared_and_changes_no_bit),
            UNIT(test_pages_that_were_computed_at_the_same_time_become_one),
            UNIT(test_unused_pages_are_bounded_and_the_least_recently_used_goes_first),
            UNIT(test_a_sequence_cut_within_a_shared_page_leaves_the_others_alone),
            UNIT(test_a_copy_of_a_page_that_is_not_full_continues_with_the_same_bits),
            UNIT(test_a_sequence_that_begins_with_a_copy_of_a_page_goes_on_with_the_same_bits),
            UNIT(test_adopted_pages_are_read_and_never_written),
            UNIT(test_an_unused_page_that_is_reused_is_the_last_to_be_forgotten),
            UNIT(test_the_page_with_the_most_tokens_in_common_is_copied),
            UNIT(test_pages_that_are_not_full_are_kept_for_the_last_sequences_only),
            UNIT(test_a_page_is_not_copied_into_its_own_memory),
            UNIT(test_pages_after_a_forgotten_one_are_not_found),
            UNIT(test_an_append_without_a_page_left_is_an_error_that_changes_nothing),
            UNIT(test_a_page_tells_its_tokens),
            UNIT(test_a_full_context_and_a_wrong_token_are_errors_that_change_nothing),
            UNIT(test_a_pass_that_fails_leaves_nothing_behind),
            UNIT(test_the_mask_of_each_layer_is_one_band),
            {0},
        });
    model_free(&model);
    checkpoint_close(&checkpoint);
    return status;
}
