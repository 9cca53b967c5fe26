package access

import (
	"context"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// grant gives rights on the flows whose names match one of the patterns.
type grant struct {
	flows  []string
	rights rightSet
	mask   []string // fields of rows that are hidden, as names with dots between them
}

// on reports whether the grant is for a flow.
func (g *grant) on(flow string) bool {
	return slices.ContainsFunc(g.flows, func(pattern string) bool { return matches(pattern, flow) })
}

// Identity is a caller and what it may do. It does not change.
type Identity struct {
	// Name is the caller's name in the audit log.
	Name string
	// free says that there is no access file, so that the caller may do everything.
	free   bool
	grants []grant
}

// May reports whether the caller has a right on a flow. It does not matter whether the flow exists.
func (i *Identity) May(r Right, flow string) bool {
	return i.free || slices.ContainsFunc(i.grants, func(g grant) bool { return g.rights.has(r) && g.on(flow) })
}

// MayAll reports whether the caller has a right on every flow, because one of its patterns is a star.
func (i *Identity) MayAll(r Right) bool {
	return i.free || slices.ContainsFunc(i.grants, func(g grant) bool { return g.rights.has(r) && slices.Contains(g.flows, "*") })
}

// MaySome reports whether the caller has a right on some flow, which need not exist.
func (i *Identity) MaySome(r Right) bool {
	return i.free || slices.ContainsFunc(i.grants, func(g grant) bool { return g.rights.has(r) })
}

// Knows reports whether the caller has some right on a flow, so that it may be told that the flow exists.
func (i *Identity) Knows(flow string) bool {
	return i.free || slices.ContainsFunc(i.grants, func(g grant) bool { return g.on(flow) })
}

// Named returns the caller's name if an access file gives it, and "" if there is no file, so that callers are not told apart.
func (i *Identity) Named() string {
	if i.free {
		return ""
	}
	return i.Name
}

// Masks returns the fields of a flow's rows that are hidden from the caller: those that every rule hides which lets it see these rows.
func (i *Identity) Masks(flow string) []string {
	var masks []string
	first := true
	for _, g := range i.grants {
		if !g.rights.has(Rows) || !g.on(flow) {
			continue
		}
		if first {
			masks, first = slices.Clone(g.mask), false
			continue
		}
		masks = slices.DeleteFunc(masks, func(field string) bool { return !slices.Contains(g.mask, field) })
	}
	return masks
}

// Need returns nil if the caller has a right on a flow, and otherwise an error with CodePermissionDenied. The error is the same whether the
// flow exists or not.
func (i *Identity) Need(r Right, flow string) error {
	if i.May(r, flow) {
		return nil
	}
	return batch.Errorf(batch.CodePermissionDenied, "%q lacks the right %s on flow %q: somebody who may change the coordinators' access file can give it", i.Name, r, flow)
}

// NeedAll returns an error if the caller lacks the right on every flow, that is if no pattern of it is a star.
func (i *Identity) NeedAll(r Right) error {
	if i.MayAll(r) {
		return nil
	}
	return batch.Errorf(batch.CodePermissionDenied, "%q lacks the right %s on all flows (*): somebody who may change the coordinators' access file can give it", i.Name, r)
}

// NeedSome returns nil if the caller has one of the rights on some flow, and otherwise an error with CodePermissionDenied.
func (i *Identity) NeedSome(rights ...Right) error {
	for _, r := range rights {
		if i.MaySome(r) {
			return nil
		}
	}
	return batch.Errorf(batch.CodePermissionDenied, "%q lacks the right %s: somebody who may change the coordinators' access file can give it", i.Name, rights[0])
}

// NeedUnmasked returns nil if no field of a flow's rows is hidden from the caller, and otherwise an error with CodePermissionDenied. doing
// says what the caller can't do.
func (i *Identity) NeedUnmasked(flow, doing string) error {
	if len(i.Masks(flow)) == 0 {
		return nil
	}
	return batch.Errorf(batch.CodePermissionDenied, "%q can't %s of flow %q, because fields of its rows are masked", i.Name, doing, flow)
}

// Caller is who makes a call, and from where.
type Caller struct {
	*Identity
	Address string // the host and port of the caller's connection
}

// callerKey is the key of the caller in a context.
type callerKey struct{}

// With returns a context in which From finds the caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From returns the caller of a call. In a context that no interceptor of this package has made, the caller may do nothing.
func From(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Identity: &Identity{Name: "nobody"}}
}
