package testprocess_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// echo is the address of a server that sends every byte back. It ends with the test.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// dial connects to the line, and closes the connection when the test ends.
func dial(t *testing.T, l *testprocess.Line) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends a byte and returns the error of reading it back. Patience says how long it waits for the byte.
func say(t *testing.T, conn net.Conn, patience time.Duration) error {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte{7}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// isTimeout reports whether nothing came in time, and the connection is open.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// A cut line closes its connections and new ones, until it is mended.
func TestLineIsCutAndMended(t *testing.T) {
	t.Parallel()
	l := testprocess.StartLine(t, echo(t))
	first := dial(t, l)
	if err := say(t, first, time.Minute); err != nil {
		t.Fatalf("through a whole line: %v", err)
	}
	l.Cut()
	if err := say(t, first, time.Minute); err == nil || isTimeout(err) {
		t.Errorf("a connection that was cut: %v", err)
	}
	if err := say(t, dial(t, l), time.Minute); err == nil || isTimeout(err) {
		t.Errorf("a new connection through a cut line: %v", err)
	}
	l.Mend()
	if err := say(t, dial(t, l), time.Minute); err != nil {
		t.Errorf("through a mended line: %v", err)
	}
}

// A deaf line holds answers back until they may be heard. A stalled one passes nothing, and its connections stay open.
func TestLineHoldsBytesBack(t *testing.T) {
	t.Parallel()
	l := testprocess.StartLine(t, echo(t))
	conn := dial(t, l)
	heard := l.Deafen()
	if err := say(t, conn, 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("through a deaf line: %v", err)
	}
	heard()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("the answer that was held back: %v", err)
	}
	l.Stall()
	if err := say(t, conn, 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("through a stalled line: %v", err)
	}
}
