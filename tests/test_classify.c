// Choices: their log-probabilities have the same bits however many lanes, rows and pages there are,
// and whatever runs beside them.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "classify.h"
#include "small_model.h"
#include "unit.h"

enum { CONTEXT = 4 * PAGE_POSITIONS, N_BALLOTS = 3 };

static char path[] = "/tmp/test_classify.XXXXXX";
static Tokenizer *tokenizer;
static const volatile sig_atomic_t never, at_once = 2;

static const ChoiceTexts few = {.texts = {"ab", "ac", "b"}, .n = 3};
static const ChoiceTexts nested = {.texts = {"a", "abc", "ab", "zzzz", "zz"}, .n = 5};
static char words[200][8];
static ChoiceTexts many = {.n = 200};

// A vocabulary of VOCAB pieces: three special ones, then single characters.
static void make_tokenizer(void)
{
    uint8_t data[4 + (VOCAB + 1) * 16] = {8};
    size_t size = 4;
    for (size_t i = 0; i < VOCAB; i++) {
        static const char special[][8] = {"<unk>", "\n<s>\n", "\n</s>\n"};
        const char letter[8] = {(char)('Z' - 2 + i)};
        const char *piece = i < 3 ? special[i] : letter;
        const uint32_t length = (uint32_t)strlen(piece);
        memset(data + size, 0, 4);
        memcpy(data + size + 4, &length, 4);
        memcpy(data + size + 8, piece,
               sizeof letter);  // what follows the piece overwrites the rest
        size += 8 + length;
    }
    Error err;
    must(tokenizer_open_llama2c_bytes(&tokenizer, "vocabulary", data, size, VOCAB, &err), &err);
}

// Words of three letters, of which several begin alike.
static void make_inputs(void)
{
    write_small_model(path, CONTEXT);
    make_tokenizer();
    for (size_t i = 0; i < many.n; i++) {
        snprintf(words[i], sizeof *words, "%c%c%c", 'a' + (char)(i % 4), 'f' + (char)(i / 4 % 7),
                 'm' + (char)(i / 28));
        many.texts[i] = words[i];
    }
}

typedef struct {
    size_t n_lanes, n_rows;
    bool few_pages;  // the cache has those of one full sequence only
} Means;

static void open_engine(Engine *e, const EngineOptions *o, const Means *m)
{
    Error err;
    must(engine_open(e, o, ENGINE_MODEL, &err), &err);
    e->n_lanes = m->n_lanes;
    must(engine_open_cache(e, N_BALLOTS, CONTEXT, CONTEXT, &err), &err);
    if (m->few_pages) {
        cache_limit(&e->cache, 0);
    }
    e->scratch.max_logits = m->n_rows;
}

// Runs a prompt in a sequence, and begins the choices after it.
static void begin(Engine *e, Choices *c, const ChoiceTexts *texts, const int *prompt, size_t n,
                  size_t sequence)
{
    Error err;
    must(choices_open(c, texts, tokenizer, prompt[n - 1], &err), &err);
    for (size_t i = 0; i < n; i++) {
        e->rows[i] = (Row){.token = prompt[i], .sequence = sequence, .wants_logits = i + 1 == n};
    }
    must(forward(&e->model, &e->cache, &e->scratch, e->rows, n, &err), &err);
    choices_begin(c, e->rows[n - 1].logits);
}

static void fill_prompt(int *prompt, size_t n, size_t sequence)
{
    for (size_t i = 0; i < n; i++) {
        prompt[i] = 3 + (int)((i * 7 + sequence * 5) % (VOCAB - 3));
    }
}

// The log-probabilities of the texts after prompts of n, n + 1, .. tokens, into out (n_ballots,
// texts->n).
static void classify(double *out, const ChoiceTexts *texts, size_t n, size_t n_ballots,
                     const Means *m)
{
    const EngineOptions options = {.model = path, .threads = 2};
    int prompts[N_BALLOTS][CONTEXT];
    Choices choices[N_BALLOTS] = {0};
    Ballot ballots[N_BALLOTS];
    Engine e;
    Error err;
    open_engine(&e, &options, m);
    for (size_t i = 0; i < n_ballots; i++) {
        fill_prompt(prompts[i], n + i, i);
        begin(&e, &choices[i], texts, prompts[i], n + i, i);
        ballots[i] = (Ballot){
            .choices = &choices[i], .sequence = i, .prompt = prompts[i], .n_prompt = n + i};
    }
    must(choices_run(&e, ballots, n_ballots, &never, &err), &err);
    for (size_t i = 0; i < n_ballots; i++) {
        CHECK(choices[i].done, "the choices of ballot %zu are not done", i);
        CHECK(cache_length(&e.cache, i) == n + i, "the sequence has %zu tokens, expected %zu",
              cache_length(&e.cache, i), n + i);
        for (size_t k = 0; k < texts->n; k++) {
            out[i * texts->n + k] = choices[i].list[k].logprob;
        }
        choices_free(&choices[i]);
    }
    for (size_t i = N_BALLOTS; i < e.cache.n_sequences; i++) {
        CHECK(cache_length(&e.cache, i) == 0, "lane %zu holds tokens", i - N_BALLOTS);
    }
    engine_close(&e);
}

static void check_same(const ChoiceTexts *texts, size_t n, size_t n_ballots, const Means *m)
{
    static double expected[N_BALLOTS * 200], found[N_BALLOTS * 200];
    const Means plain = {.n_lanes = 0, .n_rows = 1};
    classify(expected, texts, n, n_ballots, &plain);
    classify(found, texts, n, n_ballots, m);
    for (size_t i = 0; i < n_ballots * texts->n; i++) {
        CHECK(found[i] == expected[i], "choice %zu, %zu lanes, %zu rows: %.17g, expected %.17g", i,
              m->n_lanes, m->n_rows, found[i], expected[i]);
        CHECK(found[i] < 0, "choice %zu has the logarithm %g", i, found[i]);
    }
}

TEST(test_lanes_and_rows_do_not_change_a_bit)
{
    static const Means means[] = {
        {1, 1, false}, {2, 2, false}, {3, 64, false}, {8, 5, false}, {32, 64, false}};
    static const size_t lengths[] = {1, PAGE_POSITIONS - 1, PAGE_POSITIONS, PAGE_POSITIONS + 1,
                                     2 * PAGE_POSITIONS + 7};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            check_same(&few, lengths[k], 1, &means[i]);
            check_same(&nested, lengths[k], 1, &means[i]);
        }
        check_same(&many, PAGE_POSITIONS + 3, 1, &means[i]);
    }
}

TEST(test_lanes_that_find_no_pages_are_not_missed)
{
    const Means means = {8, 16, true};
    check_same(&many, 2 * PAGE_POSITIONS + 7, 1, &means);
    check_same(&nested, 3 * PAGE_POSITIONS, 1, &means);
}

TEST(test_answers_do_not_change_each_other)
{
    static const Means means[] = {{0, 64, false}, {4, 3, false}, {32, 64, false}};
    static double alone[N_BALLOTS][200], together[N_BALLOTS * 200];
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        check_same(&many, PAGE_POSITIONS - 2, N_BALLOTS, &means[i]);
    }
    classify(together, &nested, 9, N_BALLOTS, &means[2]);
    classify(alone[0], &nested, 9, 1, &means[0]);
    CHECK(memcmp(alone[0], together, nested.n * sizeof(double)) == 0, "the first differs alone");
}

TEST(test_an_interruption_leaves_choices_unfinished_and_the_cache_as_it_was)
{
    const EngineOptions options = {.model = path, .threads = 1};
    const Means means = {.n_lanes = 4, .n_rows = 8};
    const int prompt[] = {5, 6, 7};
    Choices c = {0};
    Engine e;
    Error err;
    open_engine(&e, &options, &means);
    begin(&e, &c, &many, prompt, 3, 0);
    Ballot ballot = {.choices = &c, .sequence = 0, .prompt = prompt, .n_prompt = 3};
    must(choices_run(&e, &ballot, 1, &at_once, &err), &err);
    CHECK(!c.done, "done, though interrupted");
    CHECK(cache_length(&e.cache, 0) == 3, "the sequence has %zu tokens", cache_length(&e.cache, 0));
    must(choices_run(&e, &ballot, 1, &never, &err), &err);
    CHECK(c.done, "not done");
    float sum = 0;
    for (size_t i = 0; i < many.n; i++) {
        sum += c.probabilities[i];
    }
    CHECK(sum > 0.99999f && sum < 1.00001f, "the probabilities sum to %g", (double)sum);
    choices_free(&c);
    engine_close(&e);
}

TEST(test_duplicates_are_found)
{
    const ChoiceTexts texts = {.texts = {"c", "b", "a", "ab", "b", "a"}, .n = 6};
    CHECK(choice_texts_duplicate(&texts) == 4, "found %zu", choice_texts_duplicate(&texts));
    CHECK(choice_texts_duplicate(&nested) == nested.n, "nested choices are not duplicates");
}

int main(int argc, char **argv)
{
    make_inputs();
    const int status = unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_lanes_and_rows_do_not_change_a_bit),
            UNIT(test_lanes_that_find_no_pages_are_not_missed),
            UNIT(test_answers_do_not_change_each_other),
            UNIT(test_an_interruption_leaves_choices_unfinished_and_the_cache_as_it_was),
            UNIT(test_duplicates_are_found),
            {0},
        });
    unlink(path);
    tokenizer_free(tokenizer);
    return status;
}
