package kis

import "sync"

// metadata keeps the values that a program keeps with a flow, a function or a connector, by key.
// The zero value is ready for use. It is safe for concurrent use.
type metadata struct {
	mu     sync.Mutex
	values map[string]any // guarded by mu
}

// get returns the value of a key, or nil.
func (m *metadata) get(key string) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key]
}

// take removes all values, and returns them by their keys.
func (m *metadata) take() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := m.values
	m.values = nil
	return values
}

// copyTo copies all values into another metadata.
func (m *metadata) copyTo(other *metadata) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		other.set(key, value)
	}
}

// set keeps a value under a key.
func (m *metadata) set(key string, value any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = make(map[string]any)
	}
	m.values[key] = value
}
