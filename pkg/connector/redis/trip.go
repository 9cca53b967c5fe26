package redis

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// trip is the part of a round trip that differs from one kind (saveTrip, loadTrip, windowTrip) to another: which commands are sent, and
// how their answers are read. The sender that called roundTrip owns it. A trip goes through these states:
//
//	            attempt              settle: each command is done or refused
//	(commands) ---------> (answers) -----------------------------------------> over
//	    ^                     |
//	    |   pause             | settle: some commands are to be sent again
//	    +---------------------+
//	                          |
//	                          | too many tries, the connection closes, or an
//	                          | error that waiting can't mend
//	                          v
//	                        given up: the rest ends with CONNECTOR_UNAVAILABLE
type trip interface {
	// commands returns the commands to send now. If there are none, the trip is over.
	commands(ctx context.Context) []goredis.Cmder
	// settle reads the answer to each command, and lets callers go whose requests are settled. It returns an error if commands have to
	// be sent again after a pause.
	settle(ctx context.Context) error
	// partly reports whether Redis has carried out some of the trip's requests.
	partly() bool
}

const (
	// partlyTries is how often the rest of a trip is tried again if Redis has carried out a part of it: callers should not wait long
	// because of one key.
	partlyTries = 1
	// maxRounds is how many pipelines a trip may send without a pause.
	maxRounds = 64
)

// roundTrip sends the commands of a trip as one pipeline, in order. It sends the commands that are left again, with backoff, until the
// trip is over or is given up. tail is sent behind the commands each time; its answers tell about them. op names the trip in metrics.
func (c *Connection) roundTrip(ctx context.Context, op string, t trip, tail ...goredis.Cmder) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = c.options.retryMin, c.options.retryMax, 2
	tries, rounds := 0, 0
	for {
		commands := t.commands(ctx)
		if len(commands) == 0 {
			return
		}
		_ = c.attempt(ctx, op, commands, tail...) // each command has its own error, which settle reads
		rounds++
		err := t.settle(ctx)
		if err == nil && rounds%maxRounds != 0 {
			continue
		}
		most := c.options.retries
		if t.partly() {
			most = min(most, partlyTries)
		}
		if tries++; tries > most || isLasting(err) || !sleep(ctx, pause.NextBackOff()) {
			return
		}
		pointAgain.Hit()
	}
}

// attempt sends commands as one pipeline, once. Each command then says by its own error whether Redis answered it (package
// redisreply). attempt returns the error of the first command that was not answered, and nil if all were.
func (c *Connection) attempt(ctx context.Context, op string, commands []goredis.Cmder, tail ...goredis.Cmder) (unanswered error) {
	start := time.Now()
	pipe := c.client.Pipeline()
	_ = pipe.BatchProcess(ctx, commands...) // it only adds them to the pipeline
	_ = pipe.BatchProcess(ctx, tail...)
	_, _ = pipe.Exec(ctx) // returns the first error of any command; each command's own error says more
	c.metrics.RoundTrip(c.name, op, time.Since(start))
	reached := false
	for _, command := range commands {
		answered, err := redisreply.Of(command)
		if !answered {
			pointUnanswered.Hit()
			c.health.reached(err)
			return err
		}
		reached = reached || err == nil || faultOf(err) != storeFault
	}
	if reached {
		c.health.reached(nil)
	}
	return nil
}

// isLasting reports whether waiting will not mend an error: somebody has to correct a document, or the rights of the Redis user.
func isLasting(err error) bool {
	said := answerOf(err)
	return isPermissionFault(said) || goredis.IsAuthError(said)
}

// sleep waits for d and returns true. If ctx ends first, it returns false at once.
func sleep(ctx context.Context, d time.Duration) bool {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}
