package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// session is a program on a terminal of its own.
type session struct {
	t      *testing.T
	keys   *os.File // the side of the terminal at which a person sits
	tty    *os.File // the side of the program
	ended  chan struct{}
	err    error // how the program ended; set before ended is closed
	reader sync.WaitGroup

	mu  sync.Mutex
	out strings.Builder // guarded by mu: everything that the program has printed
}

// onTerminal starts a command line on a terminal with a size. The terminal is closed when the test ends.
func (s *shell) onTerminal(t *testing.T, line string, columns, rows uint16) *session {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	fd := int(keys.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &session{t: t, keys: keys, tty: tty, ended: make(chan struct{})}
	p.resize(columns, rows)
	cmd := exec.Command("sh", "-c", "exec "+line)
	cmd.Dir, cmd.Env = s.dir, append(s.env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	p.reader.Go(p.read)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended already, unless the test has failed
		<-p.ended
		_ = tty.Close() // the reader sees that nobody is left on the program's side
		p.reader.Wait()
		_ = keys.Close()
	})
	return p
}

// resize gives the terminal a size.
func (p *session) resize(columns, rows uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.keys.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		p.t.Fatal(err)
	}
}

// read gathers the program's output until the terminal is closed.
func (p *session) read() {
	piece := make([]byte, 4096)
	for {
		n, err := p.keys.Read(piece)
		p.mu.Lock()
		p.out.Write(piece[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// text returns everything that the program has printed.
func (p *session) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// screen returns the lines of the last whole screen that the program has drawn: it begins each one at the top, and clears all below its end.
func (p *session) screen() []string {
	text := p.text()
	end := strings.LastIndex(text, "\x1b[J")
	if end < 0 {
		return nil
	}
	text = text[:end]
	text = text[strings.LastIndex(text, "\x1b[H")+len("\x1b[H"):]
	return strings.Split(strings.ReplaceAll(text, "\x1b[K", ""), "\r\n")
}

// press sends keys to the program.
func (p *session) press(keys string) {
	p.t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// shows waits until the screen satisfies good.
func (p *session) shows(name string, good func(lines []string) bool) {
	p.t.Helper()
	testprocess.Until(p.t, name, func() error {
		select {
		case <-p.ended:
			return fmt.Errorf("the program has ended: %w\n%q", p.err, p.text())
		default:
		}
		if lines := p.screen(); !good(lines) {
			return fmt.Errorf("the screen has\n%s", strings.Join(lines, "\n"))
		}
		return nil
	})
}

// mode returns how the terminal treats keys: whether it shows them, and gives them line by line.
func (p *session) mode() uint32 {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return m.Lflag
}

// TestTerminal runs verbs where a person sits.
func TestTerminal(t *testing.T) {
	s := start(t)
	t.Run("top", func(t *testing.T) { s.top(t) })
	s.atTerminal(t)
}

// top looks at the live screen of kisgrid top.
func (s *shell) top(t *testing.T) {
	p := s.onTerminal(t, "kisgrid top --every 200ms", 100, 24)
	before := p.mode()
	p.shows("the flows and the worker", func(lines []string) bool {
		text := strings.Join(lines, "\n")
		return len(lines) > 4 && strings.HasPrefix(lines[0], "KisGrid at ") && strings.Contains(lines[0], "q ends") &&
			strings.Contains(text, "CalStuAvgScore12") && strings.Contains(text, "worker-3") && strings.Contains(text, "1 coordinators")
	})
	if now := p.mode(); now&(unix.ECHO|unix.ICANON) != 0 {
		t.Errorf("the terminal still shows keys, or gives whole lines: %#x", now)
	}

	if out, code := s.run("kisgrid submit CalStuAvgScore12 -f rows.ndjson"); code != 0 {
		t.Fatal(out)
	}
	p.shows("the rows that were submitted", func(lines []string) bool {
		for _, line := range lines {
			if cells := strings.Fields(line); len(cells) > 8 && cells[0] == "CalStuAvgScore12" && cells[8] == "2" {
				return true
			}
		}
		return false
	})

	p.resize(30, 5) // a screen is never larger than the terminal
	p.shows("a small terminal", func(lines []string) bool {
		for _, line := range lines {
			if utf8.RuneCountInString(line) > 30 {
				return false
			}
		}
		return len(lines) == 5 && strings.HasSuffix(lines[3], "…") && lines[4] == "…"
	})

	p.press("xq")
	<-p.ended
	if p.err != nil {
		t.Errorf("top ended with %v", p.err)
	}
	if now := p.mode(); now != before {
		t.Errorf("the terminal is left in another mode: %#x, before %#x", now, before)
	}
	testprocess.Until(t, "the screen of before comes back", func() error {
		if text := p.text(); !strings.Contains(text, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(text, "\x1b[?25h\x1b[?1049l") {
			return fmt.Errorf("the program has printed %q", text)
		}
		return nil
	})

	p = s.onTerminal(t, "kisgrid top --every 1h", 100, 24)
	testprocess.Until(t, "it looks", func() error {
		if text := p.text(); !strings.Contains(text, "looking …") {
			return fmt.Errorf("the program has printed %q", text)
		}
		return nil
	})
	p.press("\x03") // Ctrl-C need not wait for the next look
	<-p.ended
	if p.err != nil {
		t.Errorf("after Ctrl-C top ended with %v", p.err)
	}
}

// atTerminal runs other verbs: lists have colours on a terminal, and submit says that it waits for rows.
func (s *shell) atTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		line, keys string
		shows      []string
		hides      string
	}{
		"colours":      {"kisgrid get flows", "", []string{"CalStuAvgScore12", "\x1b[32mactive"}, "\x1b[?1049h"},
		"no colours":   {"env NO_COLOR=1 kisgrid get flows", "", []string{"CalStuAvgScore12", "active"}, "\x1b["},
		"rows by hand": {"kisgrid submit CalStuAvgScore12 --results", "{\"stu_id\":5,\"score_1\":1,\"score_2\":3}\n\x04", []string{"reading rows from the terminal", `{"stu_id":5,"avg_score":2}`, "1 done"}, "\x1b[?1049h"},
		"no editor":    {"env EDITOR=true kisgrid edit flow CalStuAvgScore3", "", []string{"nothing is changed"}, "\x1b[?1049h"},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.onTerminal(t, c.line, 120, 30)
			if c.keys != "" {
				testprocess.Until(t, "it reads", func() error {
					if text := p.text(); !strings.Contains(text, c.shows[0]) {
						return fmt.Errorf("the program has printed %q", text)
					}
					return nil
				})
				p.press(c.keys)
			}
			<-p.ended
			if p.err != nil {
				t.Errorf("it ended with %v", p.err)
			}
			testprocess.Until(t, "its output", func() error {
				text := p.text()
				for _, want := range c.shows {
					if !strings.Contains(text, want) {
						return fmt.Errorf("%q has no %q", text, want)
					}
				}
				return nil
			})
			if strings.Contains(p.text(), c.hides) {
				t.Errorf("it prints %q", p.text())
			}
		})
	}
}
