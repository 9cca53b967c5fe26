package kis

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
)

// NewID returns 32 random hexadecimal digits, after the prefixes, all joined by dashes: NewID("flow") is "flow-0123…".
func NewID(prefixes ...string) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return strings.Join(append(slices.Clip(prefixes), hex.EncodeToString(id[:])), "-")
}
