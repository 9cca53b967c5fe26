package deadletter

import (
	goredis "github.com/redis/go-redis/v9"

	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// operatorFactor is the timeout of a call that an operator waits for, as a multiple of the timeout of a call that a client waits for.
const operatorFactor = 5

// operatorCall runs f, which an operator waits for, with a timeout of operatorFactor times Config.Timeout. doing says what f does, for
// the error.
func (s *Store) operatorCall(ctx context.Context, doing string, f func(context.Context) error) error {
	return s.timedCall(ctx, operatorFactor*s.config.Timeout, doing, f)
}

// clientCall runs f, which a client waits for, with the timeout Config.Timeout. doing says what f does, for the error.
func (s *Store) clientCall(ctx context.Context, doing string, f func(context.Context) error) error {
	return s.timedCall(ctx, s.config.Timeout, doing, f)
}

// timedCall runs f with the timeout limit. If f returns an error without a code, timedCall gives it one, and says what to do about it.
// doing says what f does, for the error.
func (s *Store) timedCall(ctx context.Context, limit time.Duration, doing string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(ctx)
	var network net.Error
	switch {
	case err == nil:
		return nil
	case batch.CodeOf(err) != batch.CodeInternal:
		return err
	case errors.Is(err, context.Canceled):
		return batch.Errorf(batch.CodeCancelled, "%s: %w", doing, err)
	case redisreply.IsAnswer(err) && goredis.HasErrorPrefix(err, "OOM"):
		return batch.Errorf(batch.CodeOverloaded, "%s: %w: give Redis more memory, or redrive or drop letters", doing, err)
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return batch.Errorf(batch.CodeUnavailable, "%s: Redis at %s can't be reached: %w", doing, s.client.Options().Addr, err)
	}
	return batch.Errorf(batch.CodeUnavailable, "%s: Redis at %s refused it: %w: correct the URL, the password or the user's rights, or wait until Redis has recovered, and try again",
		doing, s.client.Options().Addr, err)
}

// send sends commands in one round trip. It returns the first error of a command: an error that Redis answered, or the reason why the
// command's result was not read. All commands and scripts of the Store go through send and runScript, which make sure that a lost answer
// is not taken for an empty one.
func (s *Store) send(ctx context.Context, commands ...goredis.Cmder) error {
	if len(commands) == 0 {
		return nil
	}
	p := s.client.Pipeline()
	_ = p.BatchProcess(ctx, commands...) // it only collects the commands
	_, _ = p.Exec(ctx)                   // each command has its own error
	for _, command := range commands {
		if _, err := redisreply.Of(command); err != nil {
			return err
		}
	}
	return nil
}

// runScript runs a script by its hash, and sends its text if Redis does not know the hash. The returned command has the result, or the
// error of Redis or of the connection.
func (s *Store) runScript(ctx context.Context, script *goredis.Script, keys []string, args ...any) *goredis.Cmd {
	p := s.client.Pipeline()
	command := script.EvalSha(ctx, p, keys, args...)
	_, _ = p.Exec(ctx) // the command has its own error
	if answered, err := redisreply.Of(command); answered && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		command = script.Eval(ctx, p, keys, args...)
		_, _ = p.Exec(ctx) // the command has its own error
	}
	return command
}

// wrongNumber is the error for an answer of Redis that has got results, where want results were asked for.
func wrongNumber(got, want int) error {
	return fmt.Errorf("an answer with %d results came for %d commands: check the proxies between this process and Redis", got, want)
}

// key returns one of the Redis keys of a flow, by its last part, such as "letters".
func (s *Store) key(flow, name string) string { return s.config.Prefix + "{" + flow + "}:" + name }

// keys are the keys of a flow that scripts get, in the order of scriptKeys.
func (s *Store) keys(flow string) []string {
	keys := make([]string, len(scriptKeys))
	for i, name := range scriptKeys {
		keys[i] = s.key(flow, name)
	}
	return keys
}

// timeOf returns when an entry was added to a Redis stream. Its id begins with that time.
func timeOf(entry string) time.Time {
	text, _, _ := strings.Cut(entry, "-")
	ms, _ := strconv.ParseInt(text, 10, 64) // Redis's own
	return time.UnixMilli(ms)
}
