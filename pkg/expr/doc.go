// Package expr is the language of expressions in documents, such as (score_1 + score_2) / 2. A Scope says which names an expression may use.
// Scope.Compile turns a text into a Program, or finds its mistakes. A Program runs on a Frame, which has the values of one row. docs/expressions.md
// explains the language to the people who write expressions.
//
// An expression computes one value from one row. It has no clock, no randomness, no input and no output, so it gives the same bytes in every
// process. Numbers are exact, or the row fails: whole numbers have 64 bits, and nothing overflows, is rounded to another whole number, or becomes
// infinite in silence. Every evaluation has a budget of steps and of bytes.
//
// Types are checked when an expression is compiled. Where a type is not known, because no fields were declared, it is any, and the check happens
// for each row. A compiled expression is a tree of Go functions, one for each operator, with whole numbers, floats and truth values in registers.
// It allocates nothing for a row, except the text and lists that the expression itself makes, which are cut from larger pieces.
//
// The package imports no other package of the project, so workers, coordinators and the command line may all use it. It is not a stable API: see
// docs/stability.md.
//
// The files, in reading order:
//
//   - scope.go: Scope, the names that expressions may use, and Program, a compiled expression.
//   - source.go: Source, where an expression stands in a document, and Mistake, a message that points there.
//   - nearest.go: the known name that a misspelt one probably means.
//   - lexer.go: the text of an expression as tokens.
//   - syntax.go: the syntax tree, and its canonical text.
//   - parser.go: tokens as a syntax tree.
//   - type.go: types of values, as documents write them.
//   - value.go: Value, which an expression reads or gives.
//   - compare.go: which values are equal, and which one is greater.
//   - operand.go: a compiled part of an expression, as functions for each kind of value.
//   - compile.go: the compiler: checks types and makes operands.
//   - compile_names.go: names, fields and elements.
//   - compile_logic.go: the operators of truth values, absent values and choices.
//   - compile_number.go: the operators of arithmetic.
//   - compile_compare.go: comparisons.
//   - compile_call.go: calls of functions.
//   - absent.go: which values can't be absent at some place of an expression.
//   - frame.go: Frame, the values, the memory and the budget of one row's evaluation.
//   - failure.go: Failure, why an expression gives no value for a row.
//   - arithmetic.go: exact arithmetic.
//   - function.go: the table of functions, and how each of them is described.
//   - function_convert.go: functions that convert values.
//   - function_number.go: functions of numbers.
//   - function_text.go: functions of text.
//   - function_pattern.go: regular expressions.
//   - function_list.go: functions of lists.
//   - function_each.go: functions that call an expression for each element of a list.
//   - function_object.go: functions of objects.
//   - function_time.go: functions of times and durations.
//   - calendar.go: layouts of times, such as %Y-%m-%d.
//   - zones.go: time zones, from a copy of the zone database.
//   - read_json.go: rows of JSON as values.
//   - read_field.go: single fields of rows, for programs that decode rows by themselves.
//   - write_json.go: values as JSON.
//   - pass.go: values that one expression passes on to another without JSON between them.
//   - record.go: Record, an object with one expression for each field.
package expr
