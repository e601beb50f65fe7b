import { Chat } from './chat'
import { HELP, MAX_MESSAGE_LENGTH } from '@/lib/commands'

export default function Page() {
  return (
    <main>
      <h1>Task chat</h1>
      <noscript>
        <p role="alert">The chat needs JavaScript.</p>
      </noscript>
      <Chat greeting={HELP} maxLength={MAX_MESSAGE_LENGTH} />
    </main>
  )
}
