package definition

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Digest returns a hash that differs between the documents of different revisions: SHA-256 over each document's kind, name and
// YAML, each with its length as a varint before it. The order of docs does not matter, and neither do their revisions, paths and
// lines. All releases must compute the same digest.
func Digest(docs []Document) batch.Digest {
	sorted := slices.SortedFunc(slices.Values(docs), func(a, b Document) int {
		return cmp.Or(slices.Index(kinds, string(a.Kind))-slices.Index(kinds, string(b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	sum := sha256.New()
	for _, d := range sorted {
		for _, field := range [][]byte{[]byte(d.Kind), []byte(d.Name), d.YAML} {
			sum.Write(binary.AppendUvarint(nil, uint64(len(field))))
			sum.Write(field)
		}
	}
	return batch.Digest(sum.Sum(nil))
}
