package access

import "slices"

// Grant gives rights on the flows whose names match one of the patterns, in which a star stands for any characters.
type Grant struct {
	Flows  []string
	Rights []Right
	Mask   []string // fields of rows that are hidden, as names with dots between them
}

// Everything reports whether there is no access file, so that the caller may do everything.
func (i *Identity) Everything() bool { return i.free }

// Grants returns the caller's rights, in the order of the access file. It is empty where Everything is true.
func (i *Identity) Grants() []Grant {
	all := make([]Grant, 0, len(i.grants))
	for _, g := range i.grants {
		rights := slices.DeleteFunc(Rights(), func(r Right) bool { return !g.rights.has(r) })
		all = append(all, Grant{Flows: slices.Clone(g.flows), Rights: rights, Mask: slices.Clone(g.mask)})
	}
	return all
}
