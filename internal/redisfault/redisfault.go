// Package redisfault is a server that stands between a client and a Redis, and answers as a test says: with an error in place of
// Redis's answer, with a part of it, or not at all. It is for tests only.
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

// Answers are the errors that Redis answers with, without the leading dash.
func Answers() []string {
	var all []string
	for line := range strings.Lines(answers) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// Fault is what becomes of one command. The zero Fault passes it on, and the whole answer back.
type Fault struct {
	// Answer, if there is one, is an error that the client gets in place of Redis's answer.
	Answer string
	// Raw, if there is one, is what the client gets in place of Redis's answer, byte for byte.
	Raw string
	// Done has Redis carry the command out all the same.
	Done bool
	// Cut ends the connection behind the first Bytes bytes of the answer.
	Cut   bool
	Bytes int
}

// Error has a command answered with an error, and not carried out.
func Error(text string) Fault { return Fault{Answer: text} }

// Rule says what becomes of a command; its name is the first argument, in lower case. It is called by several goroutines.
type Rule func(args []string) Fault

// Server is the server. Its methods may be called by several goroutines.
type Server struct {
	backend  string
	listener net.Listener
	group    sync.WaitGroup

	mu    sync.Mutex
	rule  Rule                  // guarded by mu, as all below
	conns map[net.Conn]struct{} // of clients and to Redis
	over  bool
}

// Start starts a server before the Redis at backend, host:port or a unix socket's path. It ends with the test.
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

// Addr is where clients find it.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Let has commands treated by a rule from now on; nil: as Redis does.
func (s *Server) Let(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = rule
}

// Cut ends all connections that there are.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.group.Go(func() { s.serve(client) })
	}
}

// keep has Cut know of a connection; false: the server is over.
func (s *Server) keep(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = struct{}{}
	return !s.over
}

func (s *Server) forget(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

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

// serve carries one client's commands to Redis, one after the other, and what Redis says back.
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
	pushed := false // Redis says what it wants, when it wants
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

// carry deals with one command.
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

// readCommand reads an array of strings, as clients send it.
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

// readReply adds one whole answer of Redis to raw.
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
