package command

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// DeadLetters has the flags of the store in which a coordinator keeps dead letters.
type DeadLetters struct {
	// URL is the Redis of the store; PasswordFile has the password for it. An empty URL means that dead letters are not kept.
	URL, PasswordFile string
	Max               int              // limit for the letters of one flow
	MaxAge            time.Duration    // how long a letter is kept; negative means for ever
	transport         transport.Config // TLS files for the connection to Redis
}

// deadLettersPassword is the name of the environment variable that may have the password of the store for dead letters.
const deadLettersPassword = "KISGRID_DEAD_LETTERS_PASSWORD" //nolint:gosec // the variable's name, not a password

// BindFlags adds --dead-letters and the flags that begin with --dead-letters-.
func (d *DeadLetters) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&d.URL, "dead-letters", "", "`URL` of the Redis that keeps dead letters, as redis:// or rediss://[user@]host:port[/database]; empty: dead rows are reported and not kept")
	fs.StringVar(&d.PasswordFile, "dead-letters-password-file", "", "`file` with the password of that Redis; or set "+deadLettersPassword+" to the password")
	fs.IntVar(&d.Max, "dead-letters-max", deadletter.DefaultMax, "limit for the dead `letters` of one flow; further dead rows are not kept, and their clients are told so")
	fs.DurationVar(&d.MaxAge, "dead-letters-max-age", deadletter.DefaultMaxAge, "how long a dead letter is kept; a negative time means for ever")
	serve.BindDialFlags(&d.transport, fs, "dead-letters-")
}

// Open makes the store. It returns nil, and no error, when --dead-letters is empty. It does not wait for Redis.
func (d *DeadLetters) Open() (*deadletter.Store, error) {
	if d.URL == "" {
		return nil, nil
	}
	c := deadletter.Config{URL: d.URL, PasswordFile: d.PasswordFile, Password: os.Getenv(deadLettersPassword), Max: d.Max, MaxAge: d.MaxAge}
	if d.Max <= 0 {
		return nil, fmt.Errorf("--dead-letters-max is %d: it must be at least 1", d.Max)
	}
	if d.MaxAge == 0 {
		return nil, errors.New("--dead-letters-max-age is 0: give a time, or a negative time to keep letters for ever")
	}
	if strings.HasPrefix(d.URL, "rediss:") {
		var err error
		if c.TLS, err = d.transport.ClientTLS(); err != nil {
			return nil, err
		}
	}
	return deadletter.Open(c)
}
