package coordinator

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// definitionKey names one revision of one flow.
type definitionKey struct {
	flow     string
	revision batch.Revision
}

// sameNumber reports whether both keys name the same flow and revisions with the same number; the digests may differ. Workers of builds
// from before revisions had digests can't tell two such revisions apart.
func (k definitionKey) sameNumber(other definitionKey) bool {
	return k.flow == other.flow && k.revision.Number == other.revision.Number
}

// byDefinition is a map from revisions of flows to values. It has an inner map for each flow, so that looking through one flow's revisions
// does not touch those of other flows.
type byDefinition[T any] map[string]map[batch.Revision]T

// get returns the value of a revision, and whether the map has one.
func (d byDefinition[T]) get(key definitionKey) (T, bool) {
	v, there := d[key.flow][key.revision]
	return v, there
}

// set sets the value of a revision.
func (d byDefinition[T]) set(key definitionKey, v T) {
	if d[key.flow] == nil {
		d[key.flow] = map[batch.Revision]T{}
	}
	d[key.flow][key.revision] = v
}

// remove removes the value of a revision.
func (d byDefinition[T]) remove(key definitionKey) {
	delete(d[key.flow], key.revision)
	if len(d[key.flow]) == 0 {
		delete(d, key.flow)
	}
}

// removeNumber removes the values of all revisions of key's flow that have its number.
func (d byDefinition[T]) removeNumber(key definitionKey) {
	for other := range d[key.flow] {
		if other := (definitionKey{key.flow, other}); other.sameNumber(key) {
			d.remove(other)
		}
	}
}

// hasOtherOfNumber reports whether the map has a revision of key's flow with the same number and another digest.
func (d byDefinition[T]) hasOtherOfNumber(key definitionKey) bool {
	for other := range d[key.flow] {
		if other != key.revision && (definitionKey{key.flow, other}).sameNumber(key) {
			return true
		}
	}
	return false
}
