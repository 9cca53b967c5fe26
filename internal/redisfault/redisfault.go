// Package redisfault is a server for tests that stands between a client and a Redis. A test says how it treats each command: it
// passes the command on, answers with an error of its own, cuts the answer short, or does not answer.
package redisfault

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

//go:embed answers.txt
var answers string

// Answers returns the errors, without the leading dash, that Redis is known to answer commands with; they stand in answers.txt.
func Answers() []string {
	var all []string
	for line := range strings.Lines(answers) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// Fault is the treatment of one command. The zero Fault passes the command on, and returns the whole answer.
type Fault struct {
	// Answer, if it is not empty, is an error that the client gets in place of Redis's answer.
	Answer string
	// Raw, if it is not empty, is sent to the client in place of Redis's answer, byte for byte.
	Raw string
	// Done means that Redis carries the command out, although the client gets another answer.
	Done bool
	// Cut ends the connection after the first Bytes bytes of the answer.
	Cut   bool
	Bytes int
}

// Error makes the Fault of a command that is answered with an error and not carried out.
func Error(text string) Fault { return Fault{Answer: text} }

// Rule returns the Fault for a command. args[0] is the command's name in lower case. Several goroutines call it.
type Rule func(args []string) Fault

// Server stands between clients and a Redis, and treats each command as its Rule says. Any goroutine may call its methods.
type Server struct {
	backend  string
	listener net.Listener
	group    sync.WaitGroup

	mu    sync.Mutex
	rule  Rule                  // nil means to pass all commands on; guarded by mu
	conns map[net.Conn]struct{} // connections of clients and to Redis; guarded by mu
	over  bool                  // the test has ended; guarded by mu
}

// Start starts a server before the Redis at backend, which is a host:port or the path of a unix socket. It ends with the test.
func Start(tb testing.TB, backend string) *Server {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{backend: backend, listener: listener, conns: make(map[net.Conn]struct{})}
	s.group.Go(s.accept)
	tb.Cleanup(func() {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		_ = listener.Close()
		s.Cut()
		s.group.Wait()
	})
	return s
}

// Addr returns the address at which clients find the server.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Let sets the rule for commands from now on. nil means to pass all commands on.
func (s *Server) Let(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = rule
}

// Cut ends all connections that are open now. New ones are served.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// accept serves each client on a goroutine of its own.
func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.group.Go(func() { s.serve(client) })
	}
}

// keep notes a connection for Cut. It returns false if the test has ended.
func (s *Server) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = struct{}{}
	return !s.over
}

// forget closes a connection, and takes it off those that Cut closes.
func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// faultOf asks the rule for the Fault of a command.
func (s *Server) faultOf(args []string) Fault {
	s.mu.Lock()
	rule := s.rule
	s.mu.Unlock()
	if rule == nil {
		return Fault{}
	}
	args[0] = strings.ToLower(args[0])
	return rule(args)
}

// serve passes one client's commands to Redis one after the other, and the answers back. After SUBSCRIBE, Redis sends messages by
// itself, and they are passed on as they come.
func (s *Server) serve(client net.Conn) {
	defer s.forget(client)
	network := "tcp"
	if strings.HasPrefix(s.backend, "/") {
		network = "unix"
	}
	redis, err := net.Dial(network, s.backend)
	if err != nil {
		return
	}
	defer s.forget(redis)
	if !s.keep(client) || !s.keep(redis) {
		return
	}
	commands, replies := bufio.NewReader(client), bufio.NewReader(redis)
	pushed := false // the client has subscribed: Redis sends messages by itself
	for {
		raw, args, err := readCommand(commands)
		if err != nil {
			return
		}
		f := s.faultOf(args)
		if pushed || args[0] == "subscribe" && f == (Fault{}) {
			if !pushed {
				pushed = true
				s.group.Go(func() {
					_, _ = io.Copy(client, replies)
					_ = client.Close()
				})
			}
			if _, err := redis.Write(raw); err != nil {
				return
			}
			continue
		}
		if err := carry(client, redis, replies, raw, f); err != nil {
			return
		}
	}
}

var errCut = errors.New("the test ends the connection")

// carry treats one command as its Fault says. raw is the command's bytes. An error means that the connection must end.
func carry(client, redis io.Writer, replies *bufio.Reader, raw []byte, f Fault) error {
	reply := []byte(f.Raw)
	if f.Answer != "" {
		reply = []byte("-" + f.Answer + "\r\n")
	}
	if len(reply) == 0 || f.Done {
		if _, err := redis.Write(raw); err != nil {
			return err
		}
		said, err := readReply(replies, nil)
		if err != nil {
			return err
		}
		if len(reply) == 0 {
			reply = said
		}
	}
	if f.Cut {
		_, _ = client.Write(reply[:min(f.Bytes, len(reply))])
		if f.Bytes < len(reply) {
			return errCut
		}
		return nil
	}
	_, err := client.Write(reply)
	return err
}

// readCommand reads a command as clients send it: an array of strings. It returns the bytes of the whole command, and the
// strings.
func readCommand(r *bufio.Reader) (raw []byte, args []string, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, nil, err
	}
	n, err := strconv.Atoi(strings.TrimRight(strings.TrimPrefix(line, "*"), "\r\n"))
	if err != nil || n < 1 {
		return nil, nil, fmt.Errorf("a command begins with %q", line)
	}
	raw = append(raw, line...)
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, nil, err
		}
		size, err := strconv.Atoi(strings.TrimRight(strings.TrimPrefix(line, "$"), "\r\n"))
		if err != nil {
			return nil, nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, nil, err
		}
		raw, args = append(append(raw, line...), text...), append(args, string(text[:size]))
	}
	return raw, args, nil
}

// readReply reads one whole answer of Redis. It appends the bytes of the answer to raw, and returns the result.
func readReply(r *bufio.Reader, raw []byte) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	n, err := strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
	switch line[0] {
	case '$':
		if err != nil || n < 0 {
			return raw, err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(r, text)
		return append(raw, text...), err
	case '*':
		for range n {
			if raw, err = readReply(r, raw); err != nil {
				return nil, err
			}
		}
		return raw, err
	}
	return raw, nil
}
