package batch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Digest is the SHA-256 checksum over the documents of a revision. The zero Digest means that the digest is unknown, for
// example because it comes from an old build, which does not send digests.
type Digest [sha256.Size]byte

// IsZero reports whether the digest is unknown.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the digest in hexadecimal digits, or "" where it is unknown.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// MarshalText returns the text that String returns. The error is always nil.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text that MarshalText writes. A text that is neither empty nor 64 hexadecimal digits is an
// error, and leaves d as it was.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	var read Digest
	if len(text) != hex.EncodedLen(len(read)) {
		return digestError(text)
	}
	if _, err := hex.Decode(read[:], text); err != nil {
		return digestError(text)
	}
	*d = read
	return nil
}

// digestError says that a text is no digest.
func digestError(text []byte) error {
	return fmt.Errorf("read the digest %q: it must have %d hexadecimal digits", text, hex.EncodedLen(len(Digest{})))
}

// Revision names a revision of a flow by its number and digest. The number alone is not enough: an etcd that lost its data,
// or was restored from an earlier snapshot, gives the same numbers again. For the same reason a greater number does not
// make a revision the newer one. The newest revision is the one that etcd has now.
type Revision struct {
	Number int64 // the revision number of etcd at which the newest of the documents was written
	Digest Digest
}

// IsZero reports whether no revision is named.
func (r Revision) IsZero() bool { return r == Revision{} }

// Is reports whether r and other may name the same revision: their numbers are equal, and their digests are equal or one
// of them is unknown.
func (r Revision) Is(other Revision) bool {
	return r.Number == other.Number && (r.Digest == other.Digest || r.Digest.IsZero() || other.Digest.IsZero())
}

// String returns the revision as messages name it: its number, and the first digits of its digest where it is known.
func (r Revision) String() string {
	if r.Digest.IsZero() {
		return strconv.FormatInt(r.Number, 10)
	}
	return fmt.Sprintf("%d (%s)", r.Number, r.Digest.String()[:8])
}
