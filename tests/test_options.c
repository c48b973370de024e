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

// Sets a field of a request to a JSON value, for a vocabulary of 100 tokens.
static bool set(const char *field, const char *value, GenerateOptions *g, Error *err)
{
    Json json = {0};
    const Option *option = option_for_request(field);
    *err = (Error){0};
    CHECK(option, "%s: no option", field);
    CHECK(json_read(&json, value, strlen(value), err), "%s", err->message);
    const RequestField named = {field, 100};
    const bool ok = option && option_set_json(option, g, &json.values[0], &named, err);
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
        {"presence_penalty", "--presence-penalty", "-2", true},
        {"presence_penalty", "--presence-penalty", "2.01", false},
        {"frequency_penalty", "--frequency-penalty", "-2.01", false},
        {"frequency_penalty", "--frequency-penalty", "2", true},
        {"min_tokens", "--min-tokens", "0", true},
        {"min_tokens", "--min-tokens", "-1", false},
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

TEST(test_token_ids_are_added_by_the_command_line_and_replaced_by_a_request)
{
    Options o;
    Error err;
    CHECK(parse("--stop-token-id 7 --stop-token-id=9 --logit-bias 5=-1.5 --logit-bias 6=100", &o,
                &err),
          "%s", err.message);
    GenerateOptions *g = &o.generate;
    CHECK(g->stop_tokens.n == 2 && g->stop_tokens.ids[0] == 7 && g->stop_tokens.ids[1] == 9,
          "%zu stop tokens", g->stop_tokens.n);
    CHECK(g->biases.n == 2 && g->biases.list[0].id == 5 && g->biases.list[0].bias == -1.5f &&
              g->biases.list[1].bias == 100,
          "%zu biases", g->biases.n);
    CHECK(options_check_tokens(&o, 10, &err), "%s", err.message);
    CHECK(!options_check_tokens(&o, 9, &err) && err.kind == ERROR_USAGE &&
              strstr(err.message, "--stop-token-id 9"),
          "%s", err.message);
    CHECK(set("stop_token_ids", "[3]", g, &err) && set("logit_bias", "{\"1\": 2}", g, &err), "%s",
          err.message);
    CHECK(g->stop_tokens.n == 1 && g->biases.n == 1 && g->biases.list[0].id == 1, "%zu, %zu",
          g->stop_tokens.n, g->biases.n);
}

TEST(test_of_two_biases_of_a_token_the_last_counts)
{
    Options o;
    Error err;
    CHECK(parse("--logit-bias 5=1 --logit-bias 6=2 --logit-bias 5=3", &o, &err), "%s", err.message);
    CHECK(o.generate.biases.n == 2 && o.generate.biases.list[0].bias == 3, "%zu biases",
          o.generate.biases.n);
}

TEST(test_wrong_token_ids_and_biases_are_named)
{
    static const struct {
        const char *field, *value, *message;
    } cases[] = {
        {"stop_token_ids", "7", "stop_token_ids is 7, expected an array of at most 64 token ids"},
        {"stop_token_ids", "[1, 100]", "stop_token_ids[1] is 100, expected a token id below 100"},
        {"stop_token_ids", "[-1]", "stop_token_ids[0] is -1, expected a token id below 100"},
        {"logit_bias", "[1]",
         "logit_bias is an array, expected an object of at most 1024 token ids"},
        {"logit_bias", "{\"a\": 1}",
         "logit_bias has the name \"a\", expected a token id below 100"},
        {"logit_bias", "{\"100\": 1}",
         "logit_bias has the name \"100\", expected a token id below 100"},
        {"logit_bias", "{\"1\\u0000\": 1}",
         "logit_bias has the name \"1\", expected a token id below 100"},
        {"logit_bias", "{\"4\": 100.5}",
         "logit_bias.4 is 100.5, expected a number from -100 to 100"},
        {"logit_bias", "{\"4\": null}", "logit_bias.4 is null, expected a number from -100 to 100"},
        {"skip_special_tokens", "0", "skip_special_tokens is 0, expected true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err;
        GenerateOptions g = {0};
        CHECK(!set(cases[i].field, cases[i].value, &g, &err), "%s was accepted", cases[i].value);
        CHECK(strcmp(err.message, cases[i].message) == 0, "%s, expected %s", err.message,
              cases[i].message);
    }
}

TEST(test_wrong_token_ids_on_the_command_line_are_refused)
{
    static const char *const cases[] = {
        "--logit-bias 5",
        "--logit-bias 5=",
        "--logit-bias =5",
        "--logit-bias -5=1",
        "--logit-bias 5=1x",
        "--logit-bias 5=100.1",
        "--logit-bias a=1",
        "--logit-bias 123456789012345678901234567890=1",
        "--logit-bias 2147483648=1",
        "--stop-token-id -1",
        "--stop-token-id a",
        "--stop-token-id 2147483648",
        "--min-tokens 9 -n 8",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Options o;
        Error err;
        CHECK(!parse(cases[i], &o, &err) && err.kind == ERROR_USAGE, "%s: accepted", cases[i]);
        CHECK(strncmp(err.message, cases[i], 10) == 0, "%s: %s", cases[i], err.message);
    }
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
    return unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_defaults_are_those_of_the_table),
            UNIT(test_a_request_has_the_ranges_of_the_options),
            UNIT(test_minus_one_switches_top_k_off_in_a_request_only),
            UNIT(test_a_wrong_value_of_a_request_is_shown_and_what_was_expected),
            UNIT(test_token_ids_are_added_by_the_command_line_and_replaced_by_a_request),
            UNIT(test_of_two_biases_of_a_token_the_last_counts),
            UNIT(test_wrong_token_ids_and_biases_are_named),
            UNIT(test_wrong_token_ids_on_the_command_line_are_refused),
            UNIT(test_fields_with_rules_of_their_own_are_no_options),
            UNIT(test_the_last_of_chat_and_mode_counts),
            UNIT(test_a_prompt_keeps_the_order_of_texts_and_files),
            UNIT(test_a_prompt_has_at_most_so_many_parts),
            UNIT(test_options_that_do_not_go_together_are_named),
            {0},
        });
}
