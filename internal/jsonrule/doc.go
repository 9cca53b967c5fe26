// Package jsonrule answers how encoding/json treats a type, a field's name or a text. Packages that read rows without encoding/json ask it, so
// that they treat rows in the same way.
//
//   - jsonrule.go: types with JSON of their own, and names of fields.
//   - valid.go: whether a text is JSON, faster than encoding/json.
package jsonrule
