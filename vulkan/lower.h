/* lower.h - a plan on its way to command buffers.
 *
 * SPDX-License-Identifier: ISC
 *
 *   step  ->  one or more dispatches:  pipeline, operands, parameters, workgroups
 *
 * An operand is a span of a buffer; what it reads and writes is what barriers are
 * derived from.  Lowering words no error but those of memory and limits. */
#ifndef EBM_VULKAN_LOWER_H
#define EBM_VULKAN_LOWER_H

#include "vk.h"

enum { DISPATCH_OPERANDS = EW_MAX_INPUTS + 1 + EW_MAX_OUTPUTS };

struct span {
    struct device_buffer *buffer;
    size_t offset, size;
    bool write;
};

struct dispatch {
    enum shader shader;      /* SHADER_COUNT: a copy of operand 0 to operand 1 */
    VkPipeline pipeline;
    VkDescriptorSet set;
    uint32_t groups[2];
    double work;             /* operations, or what as long as they take */
    bool once;               /* of several runs in a row it is done before the first */
    size_t params, n_params; /* words in the buffer of parameters */
    int n_operands;
    struct span operands[DISPATCH_OPERANDS];
    int n_bound;             /* what descriptors see: the operands, or more at once */
    struct span bound[BUFFERS_MAX];
};

/* Bytes that may be taken besides what steps cannot do without, to save time. */
struct spare {
    size_t scratch, lasting;
};

struct device_program {
    struct vk *vk;
    bool dry;                /* lowered to be measured: no memory, no pipelines */
    struct device_buffer *arena;             /* shared with other programs */
    struct device_buffer *kept, *params;
    struct device_buffer **feeds, **slots;   /* slots are the store's */
    int n_feeds;
    struct device_buffer *scratch;           /* the arena, where all steps share it */
    size_t scratch_at, scratch_size;         /* from there; bytes used at most */
    size_t held;             /* of it, by large.c */
    struct device_buffer *lasting;           /* the arena: what is made once for several runs */
    size_t lasting_at, lasting_size;
    struct spare spare;
    bool too_large;          /* a step does not fit the limits of the device */
    struct dispatch *dispatches;
    size_t n_dispatches, capacity;
    size_t n_once;           /* the first of them, after lowering */
    int32_t *words;          /* parameters of all dispatches, until uploaded */
    size_t n_words, words_capacity;
    VkDescriptorPool pool;
    struct recording *recording;
};

/* A dispatch in the making: parameters in their order after the operands' words. */
enum { PARAMS_MAX = 256 };
struct draft_dispatch {
    enum shader shader;
    int n_constants;
    uint32_t constants[CONSTANTS_MAX];
    struct span operands[DISPATCH_OPERANDS];
    bool shared;             /* share_buffers() has set these */
    int n_bound;
    struct span bound[BUFFERS_MAX];
    int buffer_of[DISPATCH_OPERANDS];
    int n_params;
    int32_t params[PARAMS_MAX];
    const int32_t *tail;     /* more of them */
    size_t n_tail;
    uint64_t groups;         /* workgroups, numbered along one line */
    double work;             /* 0: by the bytes of its operands */
    bool once;
};

/* A step with the shapes of its operands; see lower.c. */
struct lowering {
    struct device_program *program;
    const ebm_graph *graph;
    const struct node *node;
    const struct step *step;
    int n_in;
    struct span in[3];       /* of CONCAT none */
    struct span out;
    const struct shape *shape[3];
    const struct ew_group *epilogue;         /* of a contraction, or NULL */
    enum ebm_precision precision;            /* of the plan */
    bool filter_lasts;       /* operand 1 is the same in several runs in a row */
};

void draft_param(struct draft_dispatch *d, int64_t value);
/* Six sizes or strides, the axes that are missing in front filled up. */
void draft_axes(struct draft_dispatch *d, int rank, const int64_t *values, int64_t fill);
void draft_constant(struct draft_dispatch *d, uint32_t value);
/* Let operands that lie in one buffer share a descriptor; false: there are too few. */
bool share_buffers(struct device_program *p, struct draft_dispatch *d);
/* One invocation for each of `count`. */
void draft_count(struct draft_dispatch *d, int64_t count);
int draft_emit(struct device_program *p, const struct draft_dispatch *d);
int emit_copy(struct device_program *p, struct span from, struct span to);

struct span span_at(const struct device_program *p, const struct place *place, size_t size);
/* As much of a span, from byte `from` of it on, as one descriptor sees. */
struct span span_seen(const struct device_program *p, const struct span *s, size_t from);
struct span span_scratch(struct device_program *p, size_t size);
/* Where `size` bytes may begin, from `at` on: in one piece of a buffer. */
size_t within_piece(const struct vk *vk, size_t at, size_t size);
/* Memory of what is made once for several runs; is there so much left? */
struct span span_lasting(struct device_program *p, size_t size);
bool has_lasting(const struct device_program *p, size_t size);
struct span written(struct span s);
void strides_of(const struct shape *s, int64_t *stride);

int lower_random(const struct lowering *l);
int lower_move(const struct lowering *l);
int lower_reduce(const struct lowering *l);
int lower_window(const struct lowering *l);
int lower_resample(const struct lowering *l);
int lower_index(const struct lowering *l);
int lower_contract(const struct lowering *l);
/* For each point [rows][columns] = a b.  a is [rows][depth], b [columns][depth]; either
 * may lie the other way round. */
struct point_products {
    int64_t points, rows, depth, columns;
    struct span a, b, to;
    bool a_turned, b_turned;
};
int lower_points(struct device_program *p, const struct point_products *q);
/* Pixels along a side of the tiles by which Winograd's algorithm makes the result, or
 * 0: it does not apply, or does not pay. */
int winograd_size(const struct lowering *l);
int lower_winograd(const struct lowering *l, int size, bool rounded);
/* Can the dispatch that ends the contraction take the group as its epilogue? */
bool contract_takes(const struct lowering *l, const struct ew_group *g);
int lower_group(struct device_program *p, const struct ew_group *g, const struct span *raw);
/* The group as an epilogue of gemm*.comp, winograd.comp or reduce.comp: is there a shader that has
 * room for it?  What it adds to a draft that has all its own: the shader, too. */
enum behind { BEHIND_GEMM, BEHIND_WINOGRAD, BEHIND_REDUCE, BEHIND_MATRIX, BEHIND_COUNT };
enum { BEHIND_CONSTANTS = 12, BEHIND_OPERANDS = 3 };
bool group_behind(const struct vk *vk, const struct ew_group *g, enum behind behind);
void group_append(const struct device_program *p, const struct ew_group *g, enum behind behind,
                  struct draft_dispatch *d);
/* Has the device descriptors enough for the group? */
bool group_binds(struct device_program *p, const struct ew_group *g, const struct span *raw);
/* Elements of the memory that an input of a group spans. */
int64_t group_extent(const struct ew_group *g, const struct ew_input *in);
/* Sum (or largest) of parts [parts][results] (in `from`) to `to`. */
int lower_parts(struct device_program *p, struct span from, struct span to, int64_t results, int64_t parts,
                bool largest);
/* The sum of a contraction's parts: its result, and its epilogue. */
int lower_parts_of(const struct lowering *l, struct span from, int64_t results, int64_t parts);

/* All steps and copies of a plan; what is done once comes first. */
int lower_plan(struct device_program *p, const struct plan *plan);
int lower_heavy(const struct lowering *l);
/* large.c: the same for a step with operands that no descriptor sees whole. */
bool is_large(const struct device_program *p, const struct span *s);
int large_heavy(const struct lowering *l);
bool large_step(const struct lowering *l, const struct ew_group *g);
int large_group(struct device_program *p, const struct ew_group *g, const struct span *raw);

/* record.c: descriptors of all dispatches; commands of those from one cut to another. */
struct cut {
    size_t dispatch;         /* all of those before, */
    uint32_t unit;           /* and so much of this one */
};
int record_new(struct device_program *p);
void record_range(struct device_program *p, VkCommandBuffer c, struct cut from, struct cut to);
/* What a dispatch may be cut into: workgroups, or rows of them. */
uint32_t dispatch_units(const struct dispatch *t);

/* submit.c */
int submit_new(struct device_program *p);
void submit_free(struct device_program *p);
int submit_run(struct device_program *p, int times);

#endif
