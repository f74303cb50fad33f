package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/pkg/hubble/monitor"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/types"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// feed puts flows into Cilium's event queue at the wanted rate, calls serve once after the first few,
// and returns how many there were.
func feed(node *observer.LocalObserverServer, serve func()) (fed int) {
	queue, consumer := node.GetEventsChannel(), monitor.NewConsumer(node, lostInterval)
	lost := func(event types.LostEvent) {
		queue <- &types.MonitorEvent{Timestamp: time.Now(), NodeName: nodetypes.GetAbsoluteNodeName(), Payload: &event}
	}
	ready := sync.OnceFunc(func() {
		for node.GetRingBuffer().Len() < uint64(min(fed, *ringSize)) {
			time.Sleep(time.Millisecond)
		}
		serve()
	})
	defer ready()
	next, start := source(), time.Now()
	for skipped := 0; *count == 0 || fed < *count; {
		if fed == *prime {
			ready()
			start = time.Now()
		}
		message, err := next()
		if err == io.EOF {
			return fed
		}
		check(err)
		if event, ok := message.(*flowpb.LostEvent); ok && skipped == *skip {
			lost(types.LostEvent{Source: int(event.Source), NumLostEvents: event.NumEventsLost, CPU: int(event.Cpu.GetValue())})
		}
		flow, ok := message.(*flowpb.Flow)
		if ok && skipped < *skip {
			skipped++
			continue
		}
		if !ok {
			continue
		}
		data, err := proto.Marshal(flow)
		check(err)
		due := start.Add(time.Duration(float64(fed-*prime) / *rate * 1e9))
		if wait := time.Until(due); *rate > 0 && wait > time.Millisecond {
			time.Sleep(wait)
		}
		for !*overflow && len(queue) == cap(queue) {
			time.Sleep(100 * time.Microsecond)
		}
		consumer.NotifyPerfEvent(data, 0)
		fed++
		if *lostEvery > 0 && fed%(2**lostEvery) == *lostEvery {
			lost(types.LostEvent{Source: types.LostEventSourcePerfRingBuffer, NumLostEvents: 3, CPU: 1})
		} else if *lostEvery > 0 && fed%*lostEvery == 0 {
			now := time.Now()
			lost(types.LostEvent{Source: types.LostEventSourceEventsQueue, NumLostEvents: 5, First: now.Add(-time.Second), Last: now})
		}
	}
	return fed
}

// source returns what yields the events to feed: flows, lost events and what feed leaves out, then io.EOF.
func source() func() (proto.Message, error) {
	if *flowsFile == "" {
		return generated()
	}
	file, err := os.Open(*flowsFile)
	check(err)
	in := bufio.NewReaderSize(file, 1<<20)
	if first, _ := in.Peek(1); string(first) == "{" {
		return func() (proto.Message, error) { return readJSON(in) }
	}
	return func() (proto.Message, error) { return readBinary(in) }
}

// readBinary reads one flow.Flow after its length.
func readBinary(in io.Reader) (proto.Message, error) {
	var size uint32
	if err := binary.Read(in, binary.LittleEndian, &size); err != nil {
		return nil, err
	}
	data, flow := make([]byte, size), &flowpb.Flow{}
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("the flows file ends within a flow: %w", err)
	}
	return flow, proto.Unmarshal(data, flow)
}

// readJSON reads one line: an exporter's, `hubble observe -o jsonpb`'s, or a bare flow.Flow.
func readJSON(in *bufio.Reader) (proto.Message, error) {
	line, err := in.ReadBytes('\n')
	if len(line) == 0 {
		return nil, err
	}
	decode := protojson.UnmarshalOptions{DiscardUnknown: true}
	response, flow := &observerpb.ExportEvent{}, &flowpb.Flow{}
	if err := decode.Unmarshal(line, response); err != nil || response.ResponseTypes == nil {
		return flow, decode.Unmarshal(line, flow)
	}
	switch event := response.ResponseTypes.(type) {
	case *observerpb.ExportEvent_Flow:
		return event.Flow, nil
	case *observerpb.ExportEvent_LostEvents:
		return event.LostEvents, nil
	}
	return response, nil
}
