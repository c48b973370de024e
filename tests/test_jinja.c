// test_jinja.c - renderings that run out of memory or depth.
//
// The limit is raised step by step up to what a template needs that uses every kind of value. Until
// then the rendering must fail with a message; and the next one with the usual limits, into the
// same output, must come out as ever.
#include "base/error.h"
#include "base/json.h"
#include "text/jinja.h"
#include "unit.h"

static const char source[] =
    "{% macro m(x, y=[1]) %}{{ x }}{{ y }}{% endmacro %}{% set ns = namespace(n=0, s='') %}"
    "{% for k, v in d.items() if k != 'z' %}{% set ns.s = ns.s ~ k ~ loop.last %}{% endfor %}"
    "{% for x in [1, [2, [3]]] %}{{ x if x is iterable }}{% else %}none{% endfor %}{{ m('a') }}"
    "{{ m('a', y=2) }}{% filter upper %}t{{ ns.s }}{% endfilter %}{% set t | trim %} a {% endset %}"
    "{{ d | tojson(indent=2) }}{{ d }}{{ l | map('string') | join('-') }}{{ t }}"
    "{{ l | sort | reverse | list }}{{ '{}|{a}'.format('a', a=l) }}{{ 'a b c'.split() }}"
    "{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | list }}"
    "{{ messages[0].content | replace('i', '<|e|>') | capitalize | indent }}{{ 'x' * 3 }}"
    "{{ l[::-1] }}{{ dict(a=1) | dictsort }}{{ [3, 1] | unique | first }}{{ 'a<' + 'b' | safe }}";
static const char variables[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi <|e|>\"}], \"l\": [3, 1, 2],"
    " \"d\": {\"a\": 1, \"b\": [null, true, 1.5], \"z\": \"\"}}";

static JinjaTemplate *template;
static Json json;
static JinjaVariable inputs[3];
static JinjaInput input = {inputs, 3, 2026, 2, 28, {0}};

static void prepare(void)
{
    Error err = {0};
    CHECK(jinja_compile(&template, "test", source, sizeof source - 1, &err), "%s", err.message);
    CHECK(json_read(&json, variables, sizeof variables - 1, &err), "%s", err.message);
    const JsonValue *v = json_first(json.values);
    for (size_t i = 0; i < 3; i++, v = json_next(v)) {
        inputs[i] = (JinjaVariable){v->name, v, i == 0};
    }
    input.limits = JINJA_LIMITS;
}

static void finish(void)
{
    jinja_free(template);
    json_free(&json);
}

// Sets *limit, one of input.limits, to 0, step, 2 step .. until a rendering succeeds.
static void run_out(size_t *limit, size_t step)
{
    Error err = {0};
    JinjaOutput first = {0}, out = {0};
    const JinjaLimits usual = input.limits;
    CHECK(jinja_render(template, &input, &first, &err), "%s", err.message);
    size_t failed = 0;
    for (size_t value = 0; value < 1 << 20; value += step, failed++) {
        *limit = value;
        err = (Error){0};
        const bool ok = jinja_render(template, &input, &out, &err);
        CHECK(ok || (err.kind == ERROR_INPUT && strlen(err.message) > 10), "%s", err.message);
        input.limits = usual;
        CHECK(jinja_render(template, &input, &out, &err), "after %zu: %s", value, err.message);
        CHECK(out.size == first.size && memcmp(out.text, first.text, out.size) == 0,
              "after %zu: %.*s", value, (int)out.size, out.text);
        if (ok) {
            break;
        }
    }
    CHECK(failed > 2, "%zu renderings failed", failed);
    jinja_output_free(&first);
    jinja_output_free(&out);
}

TEST(test_a_rendering_that_runs_out_of_memory_leaves_no_trace)
{
    prepare();
    run_out(&input.limits.memory, 208);
    finish();
}

TEST(test_a_rendering_that_runs_out_of_depth_leaves_no_trace)
{
    prepare();
    run_out(&input.limits.depth, 1);
    finish();
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_a_rendering_that_runs_out_of_memory_leaves_no_trace),
                         UNIT(test_a_rendering_that_runs_out_of_depth_leaves_no_trace),
                         {0},
                     });
}
