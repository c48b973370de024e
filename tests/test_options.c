// The table of options: defaults, what goes together, and one range for options and requests.
#include "base/error.h"
#include "base/json.h"
#include "options.h"
#include "unit.h"

// Parses "run m.bin ARGUMENTS", which are separated by spaces.
static bool parse(const char *arguments, Options *o, Error *err)
{
    static char text[256];
    char *argv[16] = {"run", "m.bin"};
    int argc = 2;
    snprintf(text, sizeof text, "%s", arguments);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    *err = (Error){0};
    return options_parse(o, argc, argv, err);
}

// Sets a field of a request to a JSON value.
static bool set(const char *field, const char *value, GenerateOptions *g, Error *err)
{
    Json json = {0};
    const Option *option = option_for_request(field);
    *err = (Error){0};
    CHECK(option, "%s: no option", field);
    CHECK(json_read(&json, value, strlen(value), err), "%s", err->message);
    const bool ok = option && option_set_json(option, g, &json.values[0], field, err);
    json_free(&json);
    return ok;
}

TEST(test_defaults_are_those_of_the_table)
{
    Options o;
    Error err;
    CHECK(parse("", &o, &err), "%s", err.message);
    const SamplerOptions *s = &o.generate.sampler;
    CHECK(o.generate.max_tokens == 256 && o.chunk == 256 && s->repeat_last_n == 64, "%zu, %zu, %zu",
          o.generate.max_tokens, o.chunk, s->repeat_last_n);
    CHECK(s->temperature == 1 && s->top_p == 0.9f && s->repeat_penalty == 1, "%g, %g, %g",
          (double)s->temperature, (double)s->top_p, (double)s->repeat_penalty);
    CHECK(o.parallel == 64 && o.first_line == 1, "%zu, %zu", o.parallel, o.first_line);
    CHECK(o.mode == MODE_GENERATE && !o.chat && !option_given(&o, "seed"), "mode %d", (int)o.mode);
}

TEST(test_a_request_has_the_ranges_of_the_options)
{
    static const struct {
        const char *field, *option, *value;
        bool accepted;
    } cases[] = {
        {"temperature", "-t", "0", true},
        {"temperature", "-t", "1000", true},
        {"temperature", "-t", "1000.1", false},
        {"top_p", "-p", "0", true},
        {"top_p", "-p", "1", true},
        {"top_p", "-p", "1.1", false},
        {"min_p", "--min-p", "1.01", false},
        {"top_k", "-k", "0", true},
        {"top_k", "-k", "1.5", false},
        {"max_tokens", "-n", "0", true},
        {"max_completion_tokens", "-n", "1000000000", true},
        {"max_tokens", "-n", "1000000001", false},
        {"repetition_penalty", "--repeat-penalty", "0.01", true},
        {"repetition_penalty", "--repeat-penalty", "0", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Options o;
        Error err;
        GenerateOptions g = {0};
        char arguments[80];
        snprintf(arguments, sizeof arguments, "%s %s", cases[i].option, cases[i].value);
        CHECK(parse(arguments, &o, &err) == cases[i].accepted, "%s: %s", arguments, err.message);
        CHECK(set(cases[i].field, cases[i].value, &g, &err) == cases[i].accepted, "%s %s: %s",
              cases[i].field, cases[i].value, err.message);
        CHECK(cases[i].accepted || (err.kind == ERROR_INPUT && strstr(err.message, cases[i].field)),
              "%s", err.message);
    }
}

TEST(test_minus_one_switches_top_k_off_in_a_request_only)
{
    Options o;
    Error err;
    GenerateOptions g = {.max_tokens = 7, .sampler.top_k = 5};
    CHECK(set("top_k", "-1", &g, &err) && g.sampler.top_k == 0, "%zu", g.sampler.top_k);
    CHECK(!set("max_tokens", "-1", &g, &err) && g.max_tokens == 7, "%zu", g.max_tokens);
    CHECK(!parse("-k -1", &o, &err) && err.kind == ERROR_USAGE, "-k -1 was accepted");
}

TEST(test_a_wrong_value_of_a_request_is_shown_and_what_was_expected)
{
    Error err;
    GenerateOptions g = {0};
    CHECK(!set("temperature", "\"0.5\"", &g, &err), "a string was accepted");
    CHECK(strcmp(err.message, "temperature is \"0.5\", expected a number from 0 to 1000") == 0,
          "%s", err.message);
    CHECK(!set("ignore_eos", "1", &g, &err), "a number was accepted");
    CHECK(strcmp(err.message, "ignore_eos is 1, expected true or false") == 0, "%s", err.message);
    CHECK(!set("top_k", "-2", &g, &err), "-2 was accepted");
    CHECK(strcmp(err.message, "top_k is -2, expected a whole number from -1 to 1000000000") == 0,
          "%s", err.message);
}

TEST(test_fields_with_rules_of_their_own_are_no_options)
{
    static const char *const fields[] = {"seed", "stop", "echo", "repeat_last_n", "max-tokens", ""};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        CHECK(!option_for_request(fields[i]), "%s is an option", fields[i]);
    }
}

TEST(test_the_last_of_chat_and_mode_counts)
{
    Options o;
    Error err;
    CHECK(parse("--chat", &o, &err) && o.chat, "--chat");
    CHECK(parse("-m chat", &o, &err) && o.chat, "-m chat");
    CHECK(parse("--chat -m generate", &o, &err) && !o.chat, "--chat -m generate");
    CHECK(parse("-m generate --chat", &o, &err) && o.chat, "-m generate --chat");
    CHECK(parse("-b q --chat", &o, &err) && o.chat && o.mode == MODE_BATCH, "mode %d", (int)o.mode);
}

TEST(test_a_prompt_keeps_the_order_of_texts_and_files)
{
    static const PromptPart expected[] = {{"a", true}, {"b", false}, {"-", true}, {"b", false}};
    Options o;
    Error err;
    CHECK(parse("-f a -i b --prompt-file=- --prompt b", &o, &err), "%s", err.message);
    CHECK(o.prompt.n == 4, "%zu parts", o.prompt.n);
    for (size_t i = 0; i < 4 && i < o.prompt.n; i++) {
        const PromptPart *part = &o.prompt.parts[i];
        CHECK(strcmp(part->text, expected[i].text) == 0 && part->is_file == expected[i].is_file,
              "part %zu is %s", i, part->text);
    }
}

TEST(test_a_prompt_has_at_most_so_many_parts)
{
    static char *argv[2 + MAX_PROMPT_PARTS + 1] = {"run", "m.bin"};
    Options o;
    Error err = {0};
    for (int i = 0; i <= MAX_PROMPT_PARTS; i++) {
        argv[2 + i] = "-ia";
    }
    CHECK(options_parse(&o, 2 + MAX_PROMPT_PARTS, argv, &err), "%s", err.message);
    CHECK(!options_parse(&o, 3 + MAX_PROMPT_PARTS, argv, &err) && err.kind == ERROR_USAGE &&
              strstr(err.message, "-i: ") && strstr(err.message, "256"),
          "%s", err.message);
}

TEST(test_options_that_do_not_go_together_are_named)
{
    static const struct {
        const char *arguments, *named;
    } cases[] = {
        {"--score --tokenize", "--score"},
        {"-m chat --score", "--score"},
        {"-b q --info", "--info"},
        {"--tensors", "--tensors"},
        {"--info --chat", "--info"},
        {"-b q -i a", "--prompt"},
        {"--lines", "--lines"},
        {"--parallel 64", "--parallel"},
        {"-b q --resume", "--resume"},
        {"-b q -o r --retry", "--retry"},
        {"--logprobs 3", "--logprobs"},
        {"--quiet --stats", "--quiet"},
        {"--system a", "--system"},
        {"--prompt-cache f --score", "cache"},
        {"-f - -f -", "--prompt-file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Options o;
        Error err;
        CHECK(!parse(cases[i].arguments, &o, &err), "%s: accepted", cases[i].arguments);
        CHECK(err.kind == ERROR_USAGE && strstr(err.message, cases[i].named), "%s: %s",
              cases[i].arguments, err.message);
    }
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_defaults_are_those_of_the_table),
                         UNIT(test_a_request_has_the_ranges_of_the_options),
                         UNIT(test_minus_one_switches_top_k_off_in_a_request_only),
                         UNIT(test_a_wrong_value_of_a_request_is_shown_and_what_was_expected),
                         UNIT(test_fields_with_rules_of_their_own_are_no_options),
                         UNIT(test_the_last_of_chat_and_mode_counts),
                         UNIT(test_a_prompt_keeps_the_order_of_texts_and_files),
                         UNIT(test_a_prompt_has_at_most_so_many_parts),
                         UNIT(test_options_that_do_not_go_together_are_named),
                         {0},
                     });
}
