// Package redisreply finds out, for each command of a go-redis pipeline, whether Redis answered that command. go-redis alone does
// not tell: if the handshake of a new connection fails (HELLO, AUTH, SELECT, CLIENT SETNAME), the pipeline returns that error,
// and its commands, none of which was sent, have no error.
package redisreply

import (
	"context"
	"errors"
	"net"

	goredis "github.com/redis/go-redis/v9"
)

// Unread is the error of a command whose own reply was not read, so that nobody knows whether Redis carried it out. Reason is
// why; it may be Redis's answer to another command.
type Unread struct{ Reason error }

// Error returns the text of the reason.
func (e *Unread) Error() string {
	if e.Reason == nil {
		return "redis did not answer the command"
	}
	return e.Reason.Error()
}

// Unwrap returns the reason.
func (e *Unread) Unwrap() error { return e.Reason }

// unread is set as the error of each command before a pipeline is sent. go-redis replaces it, by an error or by nil, when it
// reads the reply to the command, and only then.
var unread error = new(Unread)

// Own makes the pipelines of a new client give each command its own result. After Exec a command has no error if its reply was
// read and is no error; it has a goredis.Error if Redis answered with one; and else another error, mostly an *Unread. It does not
// change MULTI.
func Own(client goredis.UniversalClient) {
	client.AddHook(hook{})
	if cluster, ok := client.(*goredis.ClusterClient); ok {
		// A Cluster sends one pipeline to each node, and only a node's client knows the node's answer to the handshake.
		cluster.OnNewNode(func(node *goredis.Client) { node.AddHook(hook{}) })
	}
}

// Of returns Redis's answer to a command of an executed pipeline: nil, or an error. answered is false if the command's own reply
// was not read; then the error says why.
func Of(command goredis.Cmder) (answered bool, err error) {
	err = command.Err()
	return IsAnswer(err), err
}

// IsAnswer reports whether the error of a command is Redis's answer to that command: nil, or an error that Redis itself returned.
func IsAnswer(err error) bool {
	if err == nil {
		return true // the frequent case; it allocates nothing
	}
	var missed *Unread
	var said goredis.Error
	return !errors.As(err, &missed) && errors.As(err, &said)
}

// hook is the go-redis hook that Own adds.
type hook struct{}

func (hook) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (hook) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

// ProcessPipelineHook marks the commands of a pipeline as unread, sends the pipeline, and gives each command that is still marked
// an *Unread with the reason.
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
