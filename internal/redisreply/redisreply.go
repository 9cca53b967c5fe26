// Package redisreply has go-redis tell of each command in a pipeline whether Redis answered that command. By itself it does not:
// when the handshake of a new connection fails (HELLO, AUTH, SELECT, CLIENT SETNAME), the pipeline's Exec returns that error,
// and the commands, of which none was sent, have none.
package redisreply

import (
	"context"
	"errors"
	"net"

	goredis "github.com/redis/go-redis/v9"
)

// Unread is the error of a command whose own reply was not read: whether Redis carried it out is not known. It wraps the reason,
// which may be what Redis said to another command.
type Unread struct{ Reason error }

func (e *Unread) Error() string {
	if e.Reason == nil {
		return "redis did not answer the command"
	}
	return e.Reason.Error()
}

// Unwrap is the reason.
func (e *Unread) Unwrap() error { return e.Reason }

// unread stands at each command until its reply is read: go-redis writes an error, or nil, over it then, and only then.
var unread error = new(Unread)

// Own has the pipelines of a client that was just made give each command its own reply: after Exec a command has no error where
// its reply was read and is none, a goredis.Error where Redis answered with one, and else an error that is none, mostly an
// *Unread. MULTI is left as it is.
func Own(client goredis.UniversalClient) {
	client.AddHook(hook{})
	if cluster, ok := client.(*goredis.ClusterClient); ok {
		// A Cluster's pipeline is one for each node; what a node says in the handshake is known only there.
		cluster.OnNewNode(func(node *goredis.Client) { node.AddHook(hook{}) })
	}
}

// Of is what Redis answered to a command of an executed pipeline: nil, or an error. It is false where the command's own reply was
// not read; the error says why.
func Of(command goredis.Cmder) (answered bool, err error) {
	err = command.Err()
	return IsAnswer(err), err
}

// IsAnswer reports that a command's error is Redis's answer to that command: nil, or what Redis itself said.
func IsAnswer(err error) bool {
	if err == nil {
		return true // most are: nothing is allocated for them
	}
	var missed *Unread
	var said goredis.Error
	return !errors.As(err, &missed) && errors.As(err, &said)
}

type hook struct{}

func (hook) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (hook) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (hook) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		if len(commands) == 0 || commands[0].Name() == "multi" { // go-redis does not tell MULTI its reply
			return next(ctx, commands)
		}
		for _, command := range commands {
			command.SetErr(unread)
		}
		err := next(ctx, commands)
		var missed *Unread // one for all commands that share its reason
		for _, command := range commands {
			if command.Err() != unread { //nolint:errorlint // the very value
				continue
			}
			if missed == nil {
				if err == unread { //nolint:errorlint // the very value
					err = nil
				}
				missed = &Unread{err}
			}
			command.SetErr(missed)
		}
		return err
	}
}
