package world

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// In a bubble of testing/synctest, time moves on when every goroutine waits for something that only the bubble itself can bring about. The
// Go runtime does not count a goroutine that waits for a mutex, since somebody outside of the bubble might hold the mutex. Libraries do hold
// mutexes while they wait for the network: go-redis connects a subscription so. While another goroutine waits for such a mutex, virtual
// time would stand still for ever.
//
// Nobody outside of a simulated cluster holds its mutexes. So countMutexes changes the runtime's table of the reasons for which a goroutine
// may wait: waits for mutexes count too. The table is a variable of the runtime, which no symbol of a test binary names. It is found by its
// content, which must stand in the program's data exactly once.

// Places in the runtime's table of Go 1.26 (runtime2.go, waitReason).
var (
	waitsThatCount = []int{14, 15, 16, 17, 21, 38, 40, 41, 42, 43, 44, 45} // sleep, nil channels, sync.Cond, coroutines, the bubble's own
	waitsForMutex  = []int{22, 23, 24}                                     // sync.Mutex.Lock, sync.RWMutex.RLock, sync.RWMutex.Lock
)

// waitReasons is the number of entries of the table.
const waitReasons = 47

// countMutexes makes waits for mutexes count in bubbles, once in a test process. Without it, lives in which somebody waits for a mutex that
// is held over the network hang.
var countMutexes = sync.OnceValue(func() error {
	if !strings.HasPrefix(runtime.Version(), "go1.26") {
		return fmt.Errorf("the runtime of %s has another table of waits: bring waitsThatCount up to date", runtime.Version())
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	want := make([]byte, waitReasons) // made here, so that it does not stand in the program's data
	for _, i := range waitsThatCount {
		want[i] = 1
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	var found []int64 // addresses
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); n < 3 || !strings.HasPrefix(rights, "rw") || !strings.Contains(line, program) {
			continue
		}
		data := make([]byte, to-from)
		if _, err := memory.ReadAt(data, from); err != nil {
			return fmt.Errorf("read the program's data: %w", err)
		}
		for at := 0; ; at++ {
			i := bytes.Index(data[at:], want)
			if i < 0 {
				break
			}
			at += i
			found = append(found, from+int64(at))
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("the runtime's table of waits was found %d times", len(found))
	}
	for _, i := range waitsForMutex {
		if _, err := memory.WriteAt([]byte{1}, found[0]+int64(i)); err != nil {
			return fmt.Errorf("change the runtime's table of waits: %w", err)
		}
	}
	return nil
})

// errNoTable is joined to the error of countMutexes, to say what follows from it.
var errNoTable = errors.New("virtual time stands still while somebody waits for a mutex")
