package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// tokenPrefix begins every token, so that programs which look for secrets in files recognize it.
const tokenPrefix = "kisgrid_"

// NewToken draws a token of 256 random bits. It returns the token, which its owner keeps, and its hash, which the access file has.
func NewToken() (secret, hash string) {
	var random [32]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	return secret, HashToken(secret)
}

// HashToken returns the hash of a token, as it stands in the access file. A fast hash is right for tokens of NewToken: 256 random bits
// can't be guessed, however fast the guesses are.
func HashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// remember marks the tokens as proven that were proven in an earlier version of the file, so that a change of the file does not make their
// owners strangers.
func (p *policy) remember(earlier *policy) {
	for hash, t := range p.byToken {
		if was := earlier.byToken[hash]; was != nil && was.proven.Load() {
			t.proven.Store(true)
		}
	}
}

// token is a token of the access file. Any goroutine may use it.
type token struct {
	identity *Identity
	expires  time.Time   // zero means never
	proven   atomic.Bool // somebody has shown the token since the process began
}
