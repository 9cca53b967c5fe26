package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Digest stands for the documents of a revision: SHA-256 over them. Zero means that it is not known, as from a process of a
// build that does not tell it.
type Digest [sha256.Size]byte

// IsZero reports whether the digest is not known.
func (d Digest) IsZero() bool { return d == Digest{} }

// String is the digest in hexadecimal digits, empty where it is not known.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote. The error names a text that is no digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	if n, err := hex.Decode(d[:], text[:min(len(text), hex.EncodedLen(len(d)))]); err != nil || n != len(d) || len(text) != hex.EncodedLen(n) {
		return fmt.Errorf("read the digest %q: it must have %d hexadecimal digits", text, hex.EncodedLen(len(d)))
	}
	return nil
}

// Revision names a revision of a flow. The number alone does not: an etcd that lost its data, or was restored from an earlier
// snapshot, gives numbers again. For the same reason a greater number does not make a revision the newer one; that is the one
// of which etcd says so now.
type Revision struct {
	Number int64
	Digest Digest
}

// IsZero reports whether no revision is named.
func (r Revision) IsZero() bool { return r == Revision{} }

// Is reports whether both may name the same revision: the numbers are the same, and the digests are, or one is not known.
func (r Revision) Is(other Revision) bool {
	return r.Number == other.Number && (r.Digest == other.Digest || r.Digest.IsZero() || other.Digest.IsZero())
}

// String is the revision as messages name it: its number, and the first digits of its digest where that is known.
func (r Revision) String() string {
	if r.Digest.IsZero() {
		return strconv.FormatInt(r.Number, 10)
	}
	return fmt.Sprintf("%d (%s)", r.Number, r.Digest.String()[:8])
}
