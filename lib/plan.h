/* plan.h - what a backend is given: steps over placed buffers.
 *
 * SPDX-License-Identifier: ISC
 *
 * compile:  graph -> fuse.c -> steps -> place.c -> plan -> backend
 *
 * A step is one heavy operation, an elementwise group, or both: the group is
 * then the epilogue of a CONV, CONV_DATA or MATMUL and takes its result, tile
 * by tile, from the register RAW, without it being stored.
 *
 * In place: an output of a group may lie where one of its linear inputs of the
 * same type lies, or the raw result; no element may be overwritten before all
 * instructions have read it.  UPDATE may lie on its table.  So a state is often
 * computed where it is kept.
 *
 * A group is a straight-line program over registers of float32 lanes.  Loads
 * convert int32 and bytes to float, stores convert back (truncated; bytes
 * clamped to 0..255), so integers are exact up to 2^24. */
#ifndef EBM_PLAN_H
#define EBM_PLAN_H

#include "graph.h"

/* Where a value lies.  `index`: STATE the slot, FEED the feed, else 0; `offset`
 * in bytes.  ARENA: memory that programs share, as they never run at once; KEPT:
 * the program's own, for what is fetched after its run.  STRIP: in the memory of one
 * block of the step's strip.  INLINE values have no memory: constants. */
enum space { SPACE_NONE, SPACE_ARENA, SPACE_KEPT, SPACE_STATE, SPACE_FEED, SPACE_STRIP };
struct place {
    enum space space;
    int32_t index;
    int64_t offset;
};

/* Reading an array over the iteration shape of a group: element strides, 0 where
 * it is broadcast. */
struct ew_input {
    struct place place;
    enum ebm_type type;
    int64_t stride[EBM_MAX_RANK];
    bool linear;             /* strides are those of a contiguous array */
    bool near;               /* an earlier step of its strip has read or made its rows, which caches hold */
    ebm_val val;
};

struct ew_output {
    struct place place;
    enum ebm_type type;
    int reg;
    ebm_val val;
};

/* reg[dst] = op(reg[a], reg[b], reg[c]).  Leaves: LOAD input a; IMM value;
 * RAW the result of the heavy operation; IOTA along axis a of the shape. */
enum ew_op {
    EW_LOAD, EW_IMM, EW_RAW, EW_IOTA,
    EW_NEG, EW_ABS, EW_SIGN, EW_FLOOR, EW_EXP, EW_LOG, EW_SQRT, EW_SIN, EW_COS,
    EW_TANH, EW_SIGMOID, EW_SOFTPLUS, EW_TRUNC, EW_BYTE,
    EW_ADD, EW_SUB, EW_MUL, EW_DIV, EW_MAX, EW_MIN, EW_LESS, EW_EQUAL,
    EW_SELECT,
    EW_COUNT
};

/* Registers that an operation reads. */
static inline int ew_operands(int op)
{
    return op < EW_NEG ? 0 : op < EW_ADD ? 1 : op < EW_SELECT ? 2 : 3;
}

struct ew_instr {
    uint8_t op;              /* enum ew_op */
    uint8_t dst, a, b, c;    /* registers, below MAX_REGS */
    float imm;
};

enum { EW_MAX_REGS = 64, EW_MAX_INPUTS = 24, EW_MAX_OUTPUTS = 12, EW_MAX_INSTRS = 160 };

struct ew_group {
    struct shape shape;      /* the iteration space, not collapsed */
    int n_in, n_out, n_instr, n_regs;
    struct ew_input *in;
    struct ew_output *out;
    struct ew_instr *instr;
};

struct step {
    enum op op;              /* the heavy operation; OP_NONE: the group alone */
    ebm_val val;             /* its node, for shape and attributes */
    int n_in;
    struct place *in;        /* operands of the heavy operation */
    struct place out;        /* its result (with a group that does not store
                              * it: scratch of its size - an output of the
                              * group of the same size and type, or arena) */
    struct ew_group *group;  /* NULL: none */
    bool stored;             /* do others read `out`?  Else an epilogue alone does */
};

/* Steps [first, first + n) are done for `block` rows of axis 0 after the other, the
 * last block being what is left (strip.c).  Operands whose axis 0 is not `rows`
 * (of a group: whose stride there is 0) are shared by all blocks; a SUM over axis 0
 * is complete after the last.  Every block has memory of its own for values that
 * lie in SPACE_STRIP, which hold its rows alone. */
struct strip {
    int first, n;
    int64_t rows, block;
    int64_t bytes;           /* of SPACE_STRIP */
};

/* Does a contraction round its operands with precision bf16?  in, out: channels, or
 * a product's terms and columns. */
static inline bool rounds_to_bf16(int64_t groups, int64_t in, int64_t out)
{
    return groups == 1 && in >= 8 && out >= 8;
}

struct plan {
    const ebm_graph *graph;
    enum ebm_precision precision;    /* of contractions that round and are not `full` */
    int n_steps;
    struct step *steps;
    int n_strips;            /* in the order of their steps; none if the backend has no use */
    struct strip *strips;
    int64_t arena, kept;     /* bytes */
    int64_t piece;           /* of the arena, see backend.h; 0: it is one */
    int n_copies;            /* done last, in order: state := value */
    struct copy { struct place from, to; size_t bytes; } *copies;
    int n_fetches;
    struct fetch { ebm_val val; struct place place; } *fetches;  /* CONST too: filled arrays */
};

/* The value whose memory v reads: RESHAPE and STOP stripped.  fuse.c */
ebm_val memory_root(const ebm_graph *g, ebm_val v);
/* Elements of an operand of a heavy operation in one row of a strip; 0: shared. */
int64_t heavy_stride(const struct shape *operand, int64_t rows);
/* Is the result of this operation complete only after all blocks? */
bool closes_strip(const struct node *n);

/* describe.c: the plan as text, to be freed with mem_free. */
int plan_describe(ebm_context *ctx, const struct plan *plan, char **text);

#endif
