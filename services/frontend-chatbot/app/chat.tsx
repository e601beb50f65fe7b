'use client'

import { useEffect, useRef, useState, type FormEvent } from 'react'

type Line = { from: 'you' | 'bot' | 'error'; text: string }

const SPEAKER = { you: 'You', bot: 'Tasks', error: 'Problem' }

export function Chat({ greeting, maxLength }: { greeting: string; maxLength: number }) {
  const [lines, setLines] = useState<Line[]>([{ from: 'bot', text: greeting }])
  const [draft, setDraft] = useState('')
  const [pending, setPending] = useState(false)
  const end = useRef<HTMLDivElement>(null)

  // In braces: what an effect returns is called when it ends, and scrollIntoView returns a promise in new browsers.
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'nearest' })
  }, [lines])

  async function submit(event: FormEvent) {
    event.preventDefault()
    const message = draft.trim()
    if (message === '' || pending) return
    setDraft('')
    setPending(true)
    setLines((before) => [...before, { from: 'you', text: message }])
    const reply = await send(message)
    setLines((before) => [...before, reply])
    setPending(false)
  }

  return (
    <>
      <div className="log" role="log" aria-label="Conversation" tabIndex={0}>
        {lines.map((line, index) => (
          <p key={index} className={line.from}>
            <strong>{SPEAKER[line.from]}</strong>
            {line.text}
          </p>
        ))}
        <div ref={end} />
      </div>
      <form onSubmit={submit}>
        <label htmlFor="message">Message</label>
        <div className="field">
          <input
            id="message"
            value={draft}
            onChange={(event) => setDraft(event.target.value)}
            maxLength={maxLength}
            autoComplete="off"
            placeholder="add buy milk"
            autoFocus
          />
          <button disabled={pending}>Send</button>
        </div>
      </form>
    </>
  )
}

async function send(message: string): Promise<Line> {
  try {
    const response = await fetch('/api/chat', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ message }),
    })
    const body: { reply?: string; error?: string } = await response.json()
    return body.reply === undefined
      ? { from: 'error', text: body.error ?? 'That did not work. Try again in a moment.' }
      : { from: 'bot', text: body.reply }
  } catch {
    return { from: 'error', text: 'The chat does not answer. Try again in a moment.' }
  }
}
