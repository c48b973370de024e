// constraint_refs.c - where the references of a JSON schema lead. See constraint_refs.h.
//
// A reference is a URI, relative to that of the resource it stands in, and a fragment: a JSON
// pointer or the name of an anchor. Nothing is ever fetched.
#include "text/constraint_refs.h"

#include <stdlib.h>
#include <string.h>

// --------------------------------------------------------------------------------------------
// URIs

static bool has_scheme(const char *uri)
{
    const size_t n = strspn(uri,
                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return n > 1 && uri[n] == ':';
}

// Where the path of an absolute URI begins: after "scheme://authority".
static size_t path_start(const char *uri)
{
    const char *authority = strstr(uri, "://");
    const char *path = authority ? strchr(authority + 3, '/') : NULL;
    return path ? (size_t)(path - uri) : authority ? strlen(uri) : 0;
}

// Removes "." and ".." from the path of a URI, in place.
static void remove_dots(char *path)
{
    char *out = path;
    for (const char *in = path; *in;) {
        if (strncmp(in, "/./", 3) == 0 || strcmp(in, "/.") == 0) {
            in += 2;
        } else if (strncmp(in, "/../", 4) == 0 || strcmp(in, "/..") == 0) {
            in += 3;
            while (out > path && *--out != '/') {
            }
        } else {
            *out++ = *in++;
        }
    }
    *out = 0;
}

// The absolute form of a reference without its fragment, (size) bytes; NULL: out of memory.
static char *resolve_uri(const char *base, const char *ref, size_t size)
{
    Buffer out = {0};
    size_t keep = 0;
    if (size == 0) {
        keep = strlen(base);
    } else if (!has_scheme(ref)) {
        const char *slash = strrchr(base, '/');
        keep = *ref == '/' ? path_start(base) : slash ? (size_t)(slash - base) + 1 : 0;
    }
    buffer_add(&out, base, keep);
    buffer_add(&out, ref, size);
    if (out.lacking) {
        buffer_free(&out);
        return NULL;
    }
    if (!out.data) {
        return calloc(1, 1);
    }
    if (!has_scheme(out.data) || path_start(out.data)) {
        remove_dots(out.data + path_start(out.data));
    }
    return out.data;
}

// --------------------------------------------------------------------------------------------
// Resources

// The innermost resource that a value is in.
static const Resource *resource_of(const References *r, size_t value)
{
    const Resource *found = &r->resources[0];
    for (size_t i = 1; i < r->n; i++) {
        if (r->resources[i].first <= value && value < r->resources[i].end) {
            found = &r->resources[i];
        }
    }
    return found;
}

static bool add_resource(References *r, const Json *json, size_t value, const JsonValue *id)
{
    if (r->n == r->capacity) {
        const size_t capacity = r->capacity ? 2 * r->capacity : 8;
        Resource *resources = realloc(r->resources, capacity * sizeof *resources);
        if (!resources) {
            return false;
        }
        r->resources = resources;
        r->capacity = capacity;
    }
    const char *base = r->n ? resource_of(r, value)->uri : "";
    char *uri = resolve_uri(base, id ? id->text : "", id ? strcspn(id->text, "#") : 0);
    const size_t end = value + json->values[value].extent;
    r->resources[r->n] = (Resource){value, end, uri};
    r->n += uri != NULL;
    return uri;
}

// The values of these keywords are data.
static bool is_data(const JsonValue *v)
{
    return v->name && (strcmp(v->name, "enum") == 0 || strcmp(v->name, "const") == 0 ||
                       strcmp(v->name, "default") == 0 || strcmp(v->name, "examples") == 0);
}

bool references_read(References *r, const Json *json, const char *keyword, bool ref_alone)
{
    for (size_t i = 0; i < json->n_values; i++) {
        const JsonValue *v = &json->values[i];
        if (i && is_data(v) && v->kind != JSON_OBJECT) {
            i += v->extent - 1;
            continue;
        }
        const JsonValue *id = v->kind == JSON_OBJECT ? json_member(v, keyword) : NULL;
        id = id && id->kind == JSON_STRING && *id->text != '#' ? id : NULL;
        id = id && ref_alone && json_member(v, "$ref") ? NULL : id;
        if ((i == 0 || id) && !add_resource(r, json, i, id)) {
            references_free(r);
            return false;
        }
    }
    return true;
}

void references_free(References *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->resources[i].uri);
    }
    free(r->resources);
    *r = (References){0};
}

// --------------------------------------------------------------------------------------------
// Fragments

static const JsonValue *child_named(const JsonValue *v, const char *name, size_t size)
{
    const JsonValue *child = json_first(v);
    if (v->kind == JSON_ARRAY) {
        char *end;
        const unsigned long i = strtoul(name, &end, 10);
        if (!size || (size_t)(end - name) != size || i >= v->count) {
            return NULL;
        }
        for (unsigned long k = 0; k < i; k++) {
            child = json_next(child);
        }
        return child;
    }
    for (size_t i = 0; v->kind == JSON_OBJECT && i < v->count; i++, child = json_next(child)) {
        if (child->name_size == size && memcmp(child->name, name, size) == 0) {
            return child;
        }
    }
    return NULL;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// Decodes one part of a pointer, up to a slash: %41, ~0 and ~1. Returns where it ends.
static const char *decode_part(const char *at, Buffer *out)
{
    for (; *at && *at != '/'; at++) {
        const int high = *at == '%' ? hex_value(at[1]) : -1;
        const int low = high >= 0 ? hex_value(at[2]) : -1;
        char c = *at;
        if (low >= 0) {
            c = (char)(high << 4 | low);
            at += 2;
        }
        if (c == '~' && (at[1] == '0' || at[1] == '1')) {
            c = *++at == '0' ? '~' : '/';
        }
        buffer_add(out, &c, 1);
    }
    return at;
}

static const JsonValue *follow_pointer(const JsonValue *v, const char *pointer)
{
    Buffer part = {0};
    while (v && *pointer == '/') {
        part.size = 0;
        buffer_add(&part, "", 0);
        pointer = decode_part(pointer + 1, &part);
        v = child_named(v, part.data ? part.data : "", part.size);
    }
    buffer_free(&part);
    return *pointer ? NULL : v;
}

// Is this the value of an anchor: $anchor, $dynamicAnchor, or up to draft 7 an id that begins with #?
static bool is_anchor(const JsonValue *v, const char *name)
{
    const char *keyword = v->kind == JSON_STRING && v->name ? v->name : "";
    const bool new_way = !strcmp(keyword, "$anchor") || !strcmp(keyword, "$dynamicAnchor");
    const bool old_way = (!strcmp(keyword, "$id") || !strcmp(keyword, "id")) && *v->text == '#';
    return (new_way && !strcmp(v->text, name)) || (old_way && !strcmp(v->text + 1, name));
}

static const JsonValue *parent_of(const Json *json, const JsonValue *v)
{
    const JsonValue *p = v;
    do {
        p--;
    } while (p > json->values && p + p->extent <= v);
    return p;
}

static const JsonValue *find_anchor(const References *r, const Json *json, const Resource *in,
                                    const char *name)
{
    for (size_t i = in->first; i < in->end; i++) {
        if (is_anchor(&json->values[i], name) && resource_of(r, i) == in) {
            return parent_of(json, &json->values[i]);
        }
    }
    return NULL;
}

const JsonValue *reference_find(const References *r, const Json *json, const JsonValue *ref)
{
    const Resource *in = resource_of(r, (size_t)(ref - json->values));
    const size_t size = strcspn(ref->text, "#");
    if (size) {
        char *uri = resolve_uri(in->uri, ref->text, size);
        const Resource *found = NULL;
        for (size_t i = 0; uri && i < r->n; i++) {
            found = !found && strcmp(r->resources[i].uri, uri) == 0 ? &r->resources[i] : found;
        }
        free(uri);
        in = found;
    }
    if (!in) {
        return NULL;
    }
    const char *fragment = ref->text[size] == '#' ? ref->text + size + 1 : "";
    const JsonValue *root = &json->values[in->first];
    return *fragment && *fragment != '/' ? find_anchor(r, json, in, fragment)
                                         : follow_pointer(root, fragment);
}

void reference_path(const Json *json, const JsonValue *v, Buffer *out)
{
    const JsonValue *at = json->values;
    while (at < v) {
        const JsonValue *child = json_first(at);
        size_t i = 0;
        while (child + child->extent <= v) {
            child = json_next(child);
            i++;
        }
        if (child->name) {
            buffer_addf(out, "/%s", child->name);
        } else {
            buffer_addf(out, "/%zu", i);
        }
        at = child;
    }
}
